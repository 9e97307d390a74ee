"""Every exception a user can meet. Knows nothing else of the package.

    MPlusError
    ├── InputError            a text, prompt, option or file a person gave cannot be used
    │   ├── EmptyTextError        there is nothing to write or to ask
    │   ├── EncodingError         bytes that are not UTF-8
    │   │   └── BinaryFileError       no text at all: a picture, a program, binary data
    │   ├── PromptTooLongError    memory, prompt and answer do not fit the model's positions
    │   ├── RecipeError           a training recipe: not readable, an unknown key, a wrong value
    │   └── MissingExtraError     a package that an extra of ours brings is not installed
    ├── GeometryError         sizes or policies that contradict each other
    ├── CapacityError         a memory, or what a prompt reads of it, does not fit where it should lie
    ├── ReentryError          a callback (streamer, processor, progress) uses what its own caller is using
    ├── UnsupportedModelError a decoder family this package cannot attach to
    ├── CheckpointError       model weights: missing, extra, misshapen, not finite, damaged
    │   └── BaseModelMissingError  the base weights are not on this machine
    ├── TrainingError         a training run: cannot be started, resumed, stored or continued (NaN)
    └── SnapshotError         a stored memory: missing, damaged, or of another model
        ├── WrongModelError       a memory written by a model other than this one
        └── StoreError            the directory of a long-term store: in use, full, read-only, damaged

Each message says what happened, what was got, what was expected and what to do next.
"""

from __future__ import annotations


class MPlusError(Exception):
    """Root of all errors raised on purpose by this package."""


class InputError(MPlusError):
    """A text, prompt, option or file given by the caller cannot be used."""


class EmptyTextError(InputError):
    """There is nothing to write or to ask."""


class EncodingError(InputError):
    """A file is not UTF-8 text."""


class BinaryFileError(EncodingError):
    """A file holds no text in any encoding: a picture, a program, an archive, binary data."""


class PromptTooLongError(InputError):
    """Memory, prompt and answer together exceed the positions of the model."""


class RecipeError(InputError):
    """A training recipe cannot be read, has an unknown key or a value that does not fit."""


class MissingExtraError(InputError):
    """A feature needs a package that is not installed."""


class GeometryError(MPlusError):
    """Memory sizes or policies contradict each other or the model."""


class CapacityError(MPlusError):
    """A memory, or what a prompt reads of it, cannot be allocated; nothing that was held is lost."""


OutOfRoomError = CapacityError
"""The name that this error had before."""


class ReentryError(MPlusError):
    """A callback of a pass or a write started another one on the same model or memory."""


class UnsupportedModelError(MPlusError):
    """The decoder family is not one this package can attach memory to."""


class CheckpointError(MPlusError):
    """Model weights are missing, extra, misshapen, not finite or damaged."""


class BaseModelMissingError(CheckpointError):
    """The base weights are not on this machine and nothing may be downloaded."""


class TrainingError(MPlusError):
    """A training run cannot be started, resumed, stored, or gave numbers that are not finite."""


class SnapshotError(MPlusError):
    """A stored memory is missing, damaged or of an unknown version."""


class WrongModelError(SnapshotError):
    """A memory was written by another model than the one at hand."""


class StoreError(SnapshotError):
    """The directory of a long-term store is in use, full, damaged, not to be written, or something else."""
