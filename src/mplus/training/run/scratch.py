"""A small decoder with random weights and a tokenizer of whole words. Knows transformers, no memory and no training."""

from __future__ import annotations

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mplus.corpus.pair_facts import UNKNOWN, VOCABULARY
from mplus.training.run.recipe import Scratch

CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
"""Messages as they are: the model continues text and knows no turns."""


def scratch_decoder(settings: Scratch) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Make both; the weights come from torch's global generator."""
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=settings.width,
        intermediate_size=settings.mlp,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        max_position_embeddings=settings.positions,
        initializer_range=settings.init_std,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config).eval(), word_tokenizer()


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Words between spaces, nothing added; a word's id is its place in the vocabulary."""
    words = Tokenizer(WordLevel({word: number for number, word in enumerate(VOCABULARY)}, unk_token=UNKNOWN))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token=UNKNOWN, chat_template=CHAT_TEMPLATE)
