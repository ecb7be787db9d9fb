"""What to change where a start fails: pairs of what the engine's log says and what to do about it."""

__all__ = ["OF_LLAMA_CPP", "OF_TRANSFORMERS", "OF_VLLM"]

OF_LLAMA_CPP = (
    (r"unknown model architecture", "xllamacpp does not know this kind of model: update it, or use vllm:"),
    (r"unrecognized arguments|invalid int value", "docs/local-models.md lists what --serve-option takes"),
    (r"out of memory|failed to allocate|unable to allocate", "use less memory: --serve-option context=2048"),
    (
        r"failed to load model|tensor .* not found|data is not within",
        "the file is damaged: download it again",
    ),
)

OF_VLLM = (
    (
        r"Could not load this library.*torch(audio|vision|codec)|operator torchvision",
        "torchaudio, torchvision or torchcodec there do not fit torch: uninstall them, or install others",
    ),
    (
        r"out of memory|No available memory|Free memory on device",
        "too little memory: --serve-option max-model-len=4096",
    ),
    (r"unrecognized arguments|invalid choice", "an option of --serve-option is none of this vLLM's"),
    (
        r"not supported for now|Model architectures .* (are|is) not|does not recognize this architecture",
        "this version of the engine does not know this kind of model: update it",
    ),
    (
        r"gated repo|401 Client Error|Access to model .* is restricted",
        "accept the model's licence and set HF_TOKEN",
    ),
    (r"does not appear to have a file|no file named", "files of the model are missing: download them again"),
)

OF_TRANSFORMERS = (
    (r"requires `accelerate`", "its interpreter lacks accelerate: pip install accelerate"),
    (r"Missing dependencies for serving", "its interpreter lacks them: pip install 'transformers[serving]'"),
    (
        r"Unrecognized (processing class|model|configuration class)|does not recognize this architecture",
        "this version of transformers does not know this kind of model, or files are missing: update it",
    ),
    (r"out of memory", "too little memory: a smaller model, or --serve-option dtype=bfloat16"),
    *(pair for pair in OF_VLLM if "gated repo" in pair[0] or "does not appear" in pair[0]),
    (r"No such option|Invalid value", "an option of --serve-option is none of this server's"),
)
