"""What a record says of device, memory and commit is of this process and this checkout."""

import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from pipeline.orchestration import environment
from pipeline.orchestration.environment import device, loaded_packages, peak_resident, source_state

CHILD = "from pipeline.orchestration.environment import peak_resident; print(peak_resident())"


def test_a_peak_is_remembered_after_the_memory_was_given_back_and_is_no_child_s():
    child = [sys.executable, "-c", CHILD]
    before, alone = peak_resident(), int(subprocess.check_output(child))
    block = bytearray(b"1") * (before + 2 * alone)
    size = len(block)
    assert int(subprocess.check_output(child)) < 1.2 * alone < size
    del block
    assert peak_resident() > size


def test_a_gpu_that_was_used_is_named_with_its_memory(monkeypatch):
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: 2,
        get_device_name=lambda number: f"card {number}",
        max_memory_allocated=lambda: 12,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert device() == ({"type": "cuda", "name": "card 0, card 1"}, 12)
    cuda.is_initialized = lambda: False
    where, memory = device()
    assert (where["type"], memory) == ("cpu", None)
    assert where["name"]


def test_packages_are_those_that_anything_was_imported_of():
    # setuptools, where a test imports it, puts packages of its own on the path
    environment._installed_packages.cache_clear()
    providers = metadata.packages_distributions()
    loaded = {name.partition(".")[0] for name in sys.modules} & providers.keys()
    packages = {package for name in loaded for package in providers[name]}
    assert loaded_packages() == {package: metadata.version(package) for package in packages}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A package in a folder of its own, as `environment` sees it."""
    package = tmp_path / "outer" / "checkout" / "pipeline"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(environment, "PACKAGE", package)
    return package.parent


def git(folder, *arguments):
    names = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", "-C", folder, *names, *arguments], check=True, capture_output=True)


def test_the_commit_and_what_was_changed_since(checkout, monkeypatch):
    git(checkout.parent, "init")
    assert source_state() is None, "somebody else's repository around it is not asked"
    for words in ("init", "add .", "commit -m first"):
        git(checkout, *words.split())
    state = source_state()
    assert len(state["commit"]) == 40
    assert state["changed"] == []
    (checkout / "pipeline" / "new.py").write_text("")
    (checkout / "README.md").write_text("no source")
    assert source_state()["changed"] == ["pipeline/new.py"]
    monkeypatch.setenv("PATH", str(checkout))
    assert source_state() is None
