"""The configuration system: YAML with `!include`, overrides, validation, rendering. Knows no component."""

from ocean_emulators.exports import exports

__getattr__ = exports(
    __name__,
    {
        "Config": "base",
        "parse": "base",
        "apply_overrides": "overrides",
        "load_yaml": "yaml_files",
    },
)
