"""SpAtten inside unmodified Hugging Face models."""

from models.reference.huggingface.controller import Controller, PassRecord, attach, spatten_attention

__all__ = ["Controller", "PassRecord", "attach", "spatten_attention"]
