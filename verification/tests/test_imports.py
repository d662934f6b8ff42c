"""The import rules of the folder tree, walked statically."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEAF = "models.config"
MAY_IMPORT = {
    "hls": {"hls", LEAF},
    "models": {"models", "hls"},
    "verification": {"verification", "models", "hls", "traces"},
    "traces": {"traces", LEAF},
    "reports": {"reports"},
}


def imported_modules(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden_imports(module, source):
    """Modules of this project that `module` must not import, in order."""
    own = {*MAY_IMPORT, "spatten"}
    top = module.split(".")[0]
    allowed = set() if module == LEAF else MAY_IMPORT[top]
    if module.startswith("models.reference"):
        allowed = {"models.reference", LEAF}
    bad = []
    for name in imported_modules(source):
        if name.split(".")[0] not in own:
            continue
        granted = any(name == a or name.startswith(a + ".") for a in allowed)
        parent_of_granted = any(a.startswith(name + ".") for a in allowed)
        if not granted and not parent_of_granted:
            bad.append(name)
    return bad


def project_modules():
    for top in MAY_IMPORT:
        for path in sorted((ROOT / top).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if relative.parts[:2] in {("verification", "tests"), ("reports", "out")}:
                continue
            yield ".".join(relative.with_suffix("").parts).removesuffix(".__init__"), path


@pytest.mark.parametrize(("module", "path"), [pytest.param(m, p, id=m) for m, p in project_modules()])
def test_only_allowed_edges(module, path):
    assert forbidden_imports(module, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("models.reference.softmax", "from hls.types import Fixed"),
        ("models.reference.softmax", "import hls"),
        ("hls.graph", "from models.reference import softmax"),
        ("hls.graph", "import models.reference.softmax"),
        ("models.config", "from models.reference import softmax"),
        ("traces.reading", "from models.reference import attention"),
        ("reports.html", "from models.config import AcceleratorConfig"),
        ("hls.graph", "import verification"),
    ],
)
def test_a_forbidden_edge_is_seen(module, source):
    assert forbidden_imports(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("hls.graph", "from models.config import AcceleratorConfig"),
        ("models.transaction.system", "from hls.schedule import Schedule"),
        ("verification.scoreboard", "from models.reference import attention"),
        ("traces.reading", "from models.config import PruningConfig\nimport numpy"),
    ],
)
def test_an_allowed_edge_passes(module, source):
    assert forbidden_imports(module, source) == []
