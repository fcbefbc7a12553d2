"""Packaging. Pinned versions of everything are in constraints.txt; `scripts/setup_env.sh` installs them."""

from setuptools import find_packages, setup

# Two re-builds of fairseq that import on Python >= 3.11 (upstream 0.12.2 does not). One has wheels, for one
# platform; the other is compiled, and needs `--no-build-isolation` to find the torch that is already here.
HAS_WHEEL = (
    "(python_version == '3.11' or python_version == '3.12')"
    " and platform_system == 'Linux' and platform_machine == 'x86_64'"
)
HAS_NO_WHEEL = (
    "(python_version != '3.11' and python_version != '3.12')"
    " or platform_system != 'Linux' or platform_machine != 'x86_64'"
)

setup(
    name="ppa_fairseq",
    version="0.1.0",
    description="Post-pretraining alignment of multilingual BERT (PPA, NAACL 2021) as a fairseq plugin",
    license="MIT",
    packages=find_packages(include=["ppa_fairseq", "ppa_fairseq.*"]),
    python_requires=">=3.10",
    install_requires=[
        f"ve-fairseq==0.12.3; {HAS_WHEEL}",
        f"fairseq-fixed==0.12.3.1; {HAS_NO_WHEEL}",
        "hydra-core>=1.3.2,<1.4",
        "omegaconf>=2.3,<2.4",
        "torch>=2.6",
        "numpy>=1.26",
        "tokenizers>=0.20",
        "sentencepiece",
        "protobuf",  # in which sentencepiece keeps its models
        "safetensors>=0.4",
        "transformers>=4.45",
        "tqdm",
        "scikit-learn",
        "scipy>=1.15",  # bootstrap and tests with their own generator
        "matplotlib",
        "tensorboardX",  # for --tensorboard-logdir; fairseq asks for it at every start
    ],
    extras_require={
        "test": [
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "ruff",
            "polib",  # reads the catalogues of tools/make_sample.py
            "sentence-transformers",
        ],
    },
    entry_points={"console_scripts": ["ppa = ppa_fairseq.commands.main:main"]},
)
