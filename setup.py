"""Packaging. constraints.txt pins the version of every package; `scripts/setup_env.sh` installs them."""

from setuptools import find_packages, setup

# Two rebuilds of fairseq that import on Python >= 3.11, where upstream 0.12.2 does not. One has wheels for one
# platform; pip compiles the other, which needs `--no-build-isolation` to find the installed torch.
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
        "torch>=2.6,<2.14",  # 2.13 is the newest that the tests ran with
        "numpy>=1.26",
        "transformers>=5",
        "tokenizers>=0.20",
        "sentencepiece",  # transformers needs both to read an XLM-R folder that has no tokenizer.json
        "protobuf",
        "safetensors>=0.4",
        "scikit-learn",
        "scipy>=1.15",  # the first with a generator of one's own in bootstrap and tests
        "matplotlib",
        "tqdm",
    ],
    extras_require={
        "lora": ["peft>=0.21"],  # --lora-rank
        "tensorboard": ["tensorboardX"],  # fairseq's --tensorboard-logdir
        # TMX, Parquet, data sets and .zst for ppa prepare-bitext, and its --check-language
        "sources": ["backports.zstd; python_version < '3.14'", "datasets", "lxml", "py3langid>=0.4", "pyarrow"],
        "mining": ["faiss-cpu>=1.8"],  # ppa mine, ppa score-bitext
        "onnx": ["onnx", "onnxruntime", "onnxscript"],  # ppa export-onnx
        # F1 of ppa evaluate-tagging. seqeval has no wheel, and its build needs the other, before it is installed.
        "tagging": ["seqeval", "setuptools-scm"],
        "mteb": ["mteb>=2"],  # the test that mteb runs on an exported model
        "test": [
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "import-linter",
            "peft",
            "polib",  # reads the catalogues of tools/make_sample.py
            "ruff",
            "sentence-transformers",
        ],
    },
    entry_points={"console_scripts": ["ppa = ppa_fairseq.commands.main:main"]},
)
