"""What a user says of a model of others, where its file does not say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etils import epath

from luab_jax.data.class_lists import ClassList
from luab_jax.errors import option
from luab_jax.foreign.inputs import Channels, Layout
from luab_jax.foreign.model import Outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Fields that are None are as the model states, or as is usual."""

    classes: epath.PathLike | ClassList | None = None
    """Of each output, in their order: a list, or the file of one."""
    outputs: Outputs | None = None
    channels: Channels | None = None
    layout: Layout | None = None
    classifier: epath.PathLike | None = None
    """`.npy` of a text embedding for each class `[C, D]`; the model then gives image embeddings `[B, D]`."""
    trust: bool = False
    """Whether files may be unpickled, which can run any code that they hold."""
    preprocessing: Mapping[str, Any] | None = None
    """Fields of `Preprocessing` that replace what the model states."""

    def stated(self) -> list[str]:
        """The options that were given, as messages call them."""
        found = {
            "classes": self.classes,
            "outputs": self.outputs,
            "channels": self.channels,
            "layout": self.layout,
            "classifier": self.classifier,
            "trust": self.trust or None,
        }
        return [option(name) for name, value in found.items() if value is not None]
