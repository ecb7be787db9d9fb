"""A model that vLLM serves, without a GPU, as a guard: its form holds whatever the weights say."""

import os
from pathlib import Path
from typing import Any

import pytest
from support.program import ROOT, at_once, sql

INTERPRETER = Path(os.environ.get("VLLM_PYTHON") or ROOT / ".venv-vllm" / "bin" / "python")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INTERPRETER.exists(), reason="no vLLM: make .venv-vllm/.installed (3.4 GB)"),
    pytest.mark.usefixtures("here"),
]


def save(folder: Path) -> None:
    """A model of random weights with bytes as tokens, as the hub has models."""
    torch: Any = pytest.importorskip("torch")
    transformers: Any = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = ("<pad>", "</s>", "<s>")
    words = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    found = Tokenizer(models.BPE(vocab={word: at for at, word in enumerate(words)}, merges=[]))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    found.add_special_tokens(list(special))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=found, pad_token="<pad>", eos_token="</s>", bos_token="<s>"
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 2048}
    config = transformers.LlamaConfig(vocab_size=len(words), bos_token_id=2, eos_token_id=1, **sizes)
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def test_a_guard_on_vllm_is_held_to_its_form(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save(Path("model"))
    # What a CPU needs; another server's port must not be taken for ours.
    for name, value in (("VLLM_CPU_KVCACHE_SPACE", "1"), ("VLLM_PORT", "1"), ("OMP_NUM_THREADS", "1")):
        monkeypatch.setenv(name, value)
    words = ["--provider", "demo", "--judge", "none", "--turns", "1", "--limit", "2", "--images", "off"]
    words += ["--moderator", "llama-guard-3+output=vllm:model", "--serve-python", str(INTERPRETER)]
    words += ["--serve-option", "max-model-len=2048", "--serve-option", "enforce-eager=true"]
    words += ["--attempt-timeout", "300", "--min-coverage", "0"]
    done = at_once(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = sql("SELECT verdict, error FROM assessments", capsys)
    assert rows
    assert all(row["verdict"] in ("safe", "unsafe") and row["error"] is None for row in rows), rows
