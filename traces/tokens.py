"""Tokens of a text with the piece of text that each stands for.

The pieces of the tokens joined together are the text again, as it was written: each begins where the one before
ended, so that a word's first piece carries the space before it. Special tokens that the tokenizer adds stand for
themselves ("[CLS]").
"""

from itertools import pairwise
from typing import Any, NamedTuple

from traces.model_directory import Facts
from traces.trace import TraceError


class Tokens(NamedTuple):
    """Ids of a tokenized text and the pieces of text that they stand for."""

    ids: tuple[int, ...]
    texts: tuple[str, ...]


def tokenize(facts: Facts, text: str, name: str, generate: int) -> Tokens:
    """Tokenize `text`; raises `TraceError` if it is empty or does not fit the model with `generate` tokens more."""
    if not text.strip():
        raise TraceError("is empty; give a text of at least one word", where=f"text {name!r}")
    encoded = facts.tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
    ids = tuple(int(i) for i in encoded["input_ids"])
    if all(encoded["special_tokens_mask"]):
        raise TraceError("gives no token; give a text of at least one word", where=f"text {name!r}")
    if len(ids) + generate > facts.positions:
        further = f" and {generate} generated ones" if generate else ""
        raise TraceError(
            f"has {len(ids)} tokens{further}, and the model has positions for {facts.positions}; "
            + _shorter(len(ids), generate, facts.positions),
            where=f"text {name!r}",
        )
    if max(ids) >= facts.vocabulary:
        raise TraceError(
            f"has token id {max(ids)}, and the model knows ids below {facts.vocabulary}; "
            "its tokenizer belongs to another model",
            path=str(facts.directory),
        )
    texts, end = [], 0
    for token, (_, stop), special in zip(ids, encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True):
        if special:
            texts.append(facts.tokenizer.convert_ids_to_tokens(token))
        else:
            texts.append(text[end:stop])
            end = stop
    return Tokens(ids, tuple(texts))


def generated_text(tokenizer: Any, ids: tuple[int, ...], first: int) -> tuple[str, ...]:
    """The pieces of text that tokens `first` and later add to what the ones before them say.

    A token that ends within a character adds nothing; the character belongs to the token that completes it.
    """
    ends = [len(_complete(tokenizer, ids[:stop])) for stop in range(first, len(ids) + 1)]
    whole = _complete(tokenizer, ids)
    return tuple(whole[start:stop] for start, stop in pairwise(ends))


def _complete(tokenizer: Any, ids: tuple[int, ...]) -> str:
    text: str = tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
    return text.rstrip("\N{REPLACEMENT CHARACTER}")


def _shorter(tokens: int, generate: int, positions: int) -> str:
    room = positions - generate
    return f"shorten it to {room}" if room > 0 else f"generate at most {max(0, positions - tokens)}"
