"""Small random models with a tokenizer, as directories that `transformers` can load."""

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

WORDS = ("the", "film", "was", "good", "but", "her", "voice", "is", "a", "quiet", "storm", "of", "light")
TEXT = "the film was good, but her voice is a quiet storm"


def build_model(kind, seed=0, **changes):
    """A model of 3 layers and 4 heads, 2 of them K/V heads in Llama, with 64 positions."""
    torch.manual_seed(seed)
    if kind == "bert":
        sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
        config = BertConfig(vocab_size=48, max_position_embeddings=64, **(sizes | changes))
        model = BertModel(config, add_pooling_layer=False)
    elif kind == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0}
        model = GPT2LMHeadModel(GPT2Config(vocab_size=320, **(sizes | changes)))
    else:
        sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
        sizes |= {"intermediate_size": 48, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=320, **(sizes | changes)))
    # Fresh weights attend almost uniformly; larger ones make rows differ.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "embed" not in name and "wte" not in name:
                parameter.mul_(6)
    return model.eval()


def build_tokenizer(kind):
    if kind == "bert":
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "##s", "##ing", ",", ".", *WORDS]
        tokenizer = Tokenizer(models.WordPiece({t: i for i, t in enumerate(pieces)}, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]"
        )
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {
        t: i for i, t in enumerate(["<end>", *letters, "th", "the", "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}f"])
    }
    space = "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"
    tokenizer = Tokenizer(models.BPE(vocabulary, [("t", "h"), ("th", "e"), (space, "f")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?[^ ]+| +"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", bos_token="<end>")


def save_model(directory, kind, **changes):
    """Write a model and its tokenizer into `directory`; return the model."""
    model = build_model(kind, **changes)
    model.save_pretrained(directory)
    build_tokenizer(kind).save_pretrained(directory)
    return model
