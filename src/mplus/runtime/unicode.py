"""Well-formed text from what a caller or an operating system hands over. Knows no tokenizer and no memory."""

from __future__ import annotations

REPLACEMENT = "\ufffd"


def well_formed(text: str) -> str:
    """Text that every tokenizer and every file takes: halves of a pair join, a lone half becomes U+FFFD.

    A lone surrogate is half an emoji cut out of JSON, or a byte of a file name or argument that is not UTF-8. A character that is
    written as two halves, as JSON escapes are sometimes decoded, is that character.
    """
    if text.isascii():
        return text
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
