"""Snapshots to bytes and files, and back."""

from pecs_np.persistence.binary.framing import FormatFlags
from pecs_np.persistence.binary.plugin import BinaryPlugin
from pecs_np.persistence.limits import Limits
from pecs_np.persistence.plugins import PersistencePlugin

__all__ = ["BinaryPlugin", "FormatFlags", "Limits", "PersistencePlugin"]
