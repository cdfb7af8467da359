"""The public names of Tinker's Python SDK, which the table in docs/python-to-typescript.md must have.

Reads the sources without importing them, of as many versions as are named:

    pip download --no-deps tinker==0.38.0 && unzip tinker-0.38.0-py3-none-any.whl -d sdk
    python tools/python-names/list_names.py sdk … > test/fixtures/python-names.json

The `_async` twins are left out: the table has one rule for them all.
"""

import ast
import json
import pathlib
import re
import sys

CLIENTS = {
    "ServiceClient",
    "TrainingClient",
    "SamplingClient",
    "RestClient",
    "AdminClient",
    "APIFuture",
}
# those whose methods users call
DATA = {"Datum", "TensorData", "ModelInput", "ParsedCheckpointTinkerPath"}


def methods(paths: list[pathlib.Path], classes: set[str]) -> list[str]:
    """`Class.method` of public methods and properties."""
    return [
        f"{cls.name}.{item.name}"
        for path in paths
        for cls in ast.parse(path.read_text()).body
        if isinstance(cls, ast.ClassDef) and cls.name in classes
        for item in cls.body
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))
        and not item.name.startswith("_")
        and not item.name.endswith("_async")
        # validators and serializers of pydantic
        and not any("field_" in ast.unparse(d) for d in item.decorator_list)
    ]


def top_level(sdk: pathlib.Path) -> list[str]:
    """What `tinker.__all__` lists."""
    for node in ast.parse((sdk / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return [name for name in ast.literal_eval(node.value) if not name.startswith("__")]
    raise ValueError("no __all__")


def types(sdk: pathlib.Path) -> list[str]:
    """What `tinker.types` exports."""
    tree = ast.parse((sdk / "types/__init__.py").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return [alias.asname for node in imports for alias in node.names if alias.asname]


def environment(sdk: pathlib.Path) -> list[str]:
    """Variables that the SDK reads."""
    text = "\n".join(p.read_text() for p in sdk.rglob("*.py") if not p.name.endswith("_test.py"))
    return re.findall(r"""["']((?:TINKER|CLOUDFLARE)_[A-Z_]+)["']""", text)


def names(sdk: pathlib.Path) -> list[str]:
    clients = list((sdk / "lib/public_interfaces").glob("*.py"))
    data = list((sdk / "types").rglob("*.py"))
    return [
        *top_level(sdk),
        *types(sdk),
        *environment(sdk),
        *methods(clients, CLIENTS),
        *methods(data, DATA),
    ]


def version(folder: pathlib.Path) -> str:
    [info] = folder.glob("tinker-*.dist-info")
    return info.name.removeprefix("tinker-").removesuffix(".dist-info")


def main(folders: list[pathlib.Path]) -> None:
    listed = {name for folder in folders for name in names(folder / "tinker")}
    versions = [version(folder) for folder in folders]
    print(json.dumps({"versions": versions, "names": sorted(listed)}, indent=2))


if __name__ == "__main__":
    main([pathlib.Path(folder) for folder in sys.argv[1:]])
