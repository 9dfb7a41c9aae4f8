"""The settings, from whatever source: checked once, each told by its name there when it is wrong."""

from .limits import Limits
from .settings import Settings, settings_table
from .uploads import UploadSettings

__all__ = ["Limits", "Settings", "UploadSettings", "settings_table"]
