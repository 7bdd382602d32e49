"""The Linux wheel carries symbols for a debugger, several times the size of the code."""

from lading.hooks import without_symbols as pre_find_module_path  # noqa: F401 (PyInstaller calls it)
