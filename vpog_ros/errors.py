"""Tell users of errors: a sentence, and in the log the traceback of unexpected ones."""

from __future__ import annotations

import traceback

from vpog_core.types import VPOGError, sentence_of


def error_sentence(error: Exception) -> str:
    """Return the sentence of a VPOGError; type and text of any other error."""
    return str(error) if isinstance(error, VPOGError) else sentence_of(error)


def error_log(error: Exception) -> str:
    """Return what the log is to hold of an error: a VPOGError's sentence, any other's traceback."""
    if isinstance(error, VPOGError):
        return str(error)
    return "".join(traceback.format_exception(error)).strip()
