"""A stage has one name everywhere, and imports run one way."""

import ast
import re
from pathlib import Path

import pytest

from pipeline.cli import app
from pipeline.storage.layout import STAGES, Layout

ROOT = Path(__file__).parents[2]
RULES = re.compile(r"^rule (\w+):\n(.*?)(?=^rule |\Z)", re.MULTILINE | re.DOTALL)
RULE_FILES = sorted(ROOT.glob("workflow/rules/*.smk"))
RULE_TEXTS = {
    name: text for path in RULE_FILES for name, text in RULES.findall(path.read_text("utf-8"))
}
# The folders that the paths of a stage's outputs start in, by method of Layout.
OUTPUTS = {
    "ingest": ["cases", "case_store"],
    "split": ["split"],
    "train_mae": ["mae"],
    "residual_maps": ["residual_batch", "residual_store"],
    "train_segmentation": ["model"],
    "predict": ["predictions", "prediction_store"],
    "postprocess": ["masks", "mask"],
    "evaluate": ["scores", "summary"],
    "compare": ["table"],
    "tabulate": ["chosen_table"],
    "report": ["report"],
}
METHOD = sorted(ROOT.glob("grcsf/**/*.py"))
PIPELINE = sorted(ROOT.glob("pipeline/**/*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """Top-level packages that a module imports, anywhere, by statement or by name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}: relative import"
            found.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            found.add(str(ast.literal_eval(node.args[0])).split(".")[0])
    return found


def called(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("stage", STAGES)
def test_stage_is_module_function_command_and_rule(stage):
    tree = ast.parse((ROOT / "pipeline" / f"{stage}.py").read_text("utf-8"))
    assert stage in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert stage in commands or stage.replace("_", "-") in commands
    assert stage in RULE_TEXTS


@pytest.mark.parametrize("stage", STAGES)
def test_rule_calls_its_command_with_its_settings_version_and_log(stage):
    text = RULE_TEXTS[stage]
    assert re.search(rf'command\(\s*"{stage.replace("_", "-")}[ "]', text)
    assert f'settings_of("{stage}"' in text
    assert f'stage_version("{stage}")' in text
    assert re.search(rf'LOGS / "{stage}[."]', text)


@pytest.mark.parametrize("stage", STAGES)
def test_outputs_lie_in_the_stage_s_folder(stage):
    layout = Layout(Path("results"), "heart")
    arguments = {
        "case_store": ["a"],
        "mae": ["m"],
        "residual_batch": ["r", "1of2"],
        "residual_store": ["r", "a"],
        "model": ["e", 1],
        "predictions": ["e", 1],
        "prediction_store": ["e", 1, "a"],
        "masks": ["e", 1],
        "mask": ["e", 1, "a", ".nii.gz"],
        "scores": ["e"],
        "summary": ["e"],
        "table": [".md"],
        "chosen_table": ["t", ".md"],
    }
    for name in OUTPUTS[stage]:
        member = getattr(layout, name)
        path = member(*arguments[name]) if name in arguments else member
        assert path.is_relative_to(Path("results/heart") / stage), f"{stage}: {path}"
    declared = re.search(r"output:\n(.*?)    params:", RULE_TEXTS[stage], re.DOTALL)[1]
    members = set(re.findall(r"LAYOUT\.(\w+)", declared))
    assert members
    assert members <= set(OUTPUTS[stage])


@pytest.mark.parametrize("stage", STAGES)
def test_stage_has_its_section_in_the_documentation(stage):
    text = (ROOT / "docs" / "stages.md").read_text("utf-8")
    assert re.search(rf"^## `?{stage}`?$", text, re.MULTILINE)


def test_every_command_is_a_stage_the_phantom_a_question_or_an_export():
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    stages = {name for name in commands if name.replace("-", "_") in STAGES}
    assert len(stages) == len(STAGES)
    # asks something of networks, configurations and results; makes none that a rule could wait for
    questions = {"check", "complexity", "explain", "plan", "trace"}
    # takes results out, for others to use
    exports = {"export", "submission"}
    assert commands - stages == {"phantom", *questions, *exports}
    assert [group.name for group in app.registered_groups] == ["store"]  # verbs about results
    assert not questions & set(RULE_TEXTS)


def test_every_rule_is_a_stage_the_phantom_or_a_target():
    assert set(RULE_TEXTS) == {*STAGES, "phantom", "ablations"}
    assert re.findall(r"^    (\w+):", RULE_TEXTS["ablations"], re.MULTILINE) == ["input", "message"]


def test_every_rule_that_costs_is_benchmarked():
    text = (ROOT / "workflow" / "Snakefile").read_text("utf-8")
    local = re.search(r"^localrules:\n((?:    \w+,\n)+)", text, re.MULTILINE)[1]
    cheap = set(re.findall(r"\w+", local))
    assert cheap == {"all", "split", "compare", "tabulate", "ablations"}
    for rule in set(RULE_TEXTS) - cheap:
        assert re.search(rf'BENCHMARKS / "{rule}[."]', RULE_TEXTS[rule]), rule


def test_directives_stand_in_one_order():
    order = ["input", "output", "params", "log", "benchmark", "priority", "conda"]
    order += ["threads", "resources", "message", "shell"]
    for rule, text in RULE_TEXTS.items():
        found = re.findall(r"^    (\w+):", text, re.MULTILINE)
        assert found == [directive for directive in order if directive in found], rule


def test_snakefile_is_short_and_includes_in_the_data_s_order():
    text = (ROOT / "workflow" / "Snakefile").read_text("utf-8")
    assert len(text.splitlines()) <= 48
    included = re.findall(r'include: "rules/(\w+)\.smk"', text)
    assert included == [
        "messages",
        "common",
        "deployment",
        "cluster",
        "data",
        "mae",
        "segmentation",
        "evaluation",
    ]
    rules = [
        name
        for part in included
        for name, _ in RULES.findall((ROOT / "workflow/rules" / f"{part}.smk").read_text("utf-8"))
    ]
    assert [rule for rule in rules if rule != "ablations"] == ["phantom", *STAGES]


@pytest.mark.parametrize("path", METHOD, ids=relative)
def test_the_method_knows_no_files_no_settings_and_no_command_line(path):
    known = imported(path)
    forbidden = {"pipeline", "typer", "pydantic", "yaml", "zarr", "SimpleITK", "pathlib", "os"}
    assert not known & forbidden
    assert not called(path) & {"open", "torch.load", "torch.save", "np.load", "np.save"}


@pytest.mark.parametrize("path", PIPELINE, ids=relative)
def test_one_module_each_uses_simpleitk_and_zarr(path):
    owners = {"SimpleITK": "pipeline/storage/volumes.py", "zarr": "pipeline/storage/zarr_store.py"}
    for package, owner in owners.items():
        assert package not in imported(path) or relative(path) == owner
    assert "snakemake" not in imported(path)
