"""Classifiers on frozen features, fitted and chosen on English alone (scikit-learn)."""

from collections.abc import Callable, Mapping

import numpy as np

STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # inverse regularisation C of the logistic regression
HIDDEN = 512  # units of the network for pairs, as LASER's protocol has it
HELD_OUT = 0.1  # share of the training data on which C is chosen


def fit(features: np.ndarray, labels: np.ndarray, kind: str, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Fit a probe on (N, F) features and (N,) labels, and return its prediction function.

    Sentences and tags get a logistic regression, whose regularisation is chosen on a tenth of the data held out; pairs
    get a network with one hidden layer, which stops early on a tenth held out. Features are standardised. Where a tenth
    cannot hold every label, the network does not stop early, and the regression's tenth is drawn regardless of labels.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    counts = np.unique(labels, return_counts=True)[1]
    stratified = counts.min() > 1 and len(labels) * HELD_OUT >= len(counts)
    if kind == "pairs":
        stop = {"early_stopping": stratified, "validation_fraction": HELD_OUT, "n_iter_no_change": 5}
        network = MLPClassifier((HIDDEN,), random_state=seed, **stop)
        return make_pipeline(StandardScaler(), network).fit(features, labels).predict

    def regression(strength: float):
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))

    parts = train_test_split(
        features, labels, test_size=HELD_OUT, random_state=seed, stratify=labels if stratified else None
    )
    scores = [regression(strength).fit(parts[0], parts[2]).score(parts[1], parts[3]) for strength in STRENGTHS]
    return regression(STRENGTHS[int(np.argmax(scores))]).fit(features, labels).predict


def right_answers(
    train: tuple[np.ndarray, np.ndarray], tests: Mapping[str, tuple[np.ndarray, np.ndarray]], kind: str, seeds: int
) -> dict[str, np.ndarray]:
    """Fit a probe with each seed; return the share of seeds that is right on every test example, {language: (N,)}."""
    right = {language: np.zeros(len(labels)) for language, (_, labels) in tests.items()}
    for seed in range(seeds):
        predict = fit(*train, kind, seed)
        for language, (features, labels) in tests.items():
            right[language] += (predict(features) == labels) / seeds
    return right
