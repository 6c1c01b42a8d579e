"""Snapshots to bytes and files, and back."""

from pecs_np.persistence.binary.header import FormatFlags
from pecs_np.persistence.binary.plugin import BinaryPlugin
from pecs_np.persistence.binary.save import Save, SaveTable
from pecs_np.persistence.compression import CompressionType
from pecs_np.persistence.limits import Limits
from pecs_np.persistence.plugins import PersistencePlugin

__all__ = [
    "BinaryPlugin",
    "CompressionType",
    "FormatFlags",
    "Limits",
    "PersistencePlugin",
    "Save",
    "SaveTable",
]
