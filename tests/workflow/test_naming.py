"""A stage has one name everywhere, and imports run one way."""

import ast
import re
from pathlib import Path

from pipeline.cli import app
from pipeline.storage.layout import STAGES, Layout

ROOT = Path(__file__).parents[2]
RULES = re.compile(r"^rule (\w+):\n(.*?)(?=^rule |^use rule |\Z)", re.MULTILINE | re.DOTALL)
RULE_FILES = sorted(ROOT.glob("workflow/rules/*.smk"))
RULE_TEXTS = {
    name: text for path in RULE_FILES for name, text in RULES.findall(path.read_text("utf-8"))
}
TARGETS = ("table1", "ablations", "figures", "apply")
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
    "draw": ["figure"],
    "report": ["report"],
    "unpack": ["unpacked"],
    "measure": ["cohort_table", "cohort_page", "measures", "measured"],
}
METHOD = sorted(ROOT.glob("grcsf/**/*.py"))
PIPELINE = sorted(ROOT.glob("pipeline/**/*.py"))
# Each room may import those before it. Stages do not import one another.
ROOMS = ["errors", "settings", "storage", "datasets", "ingestion"]
ROOMS += ["networks", "prediction", "evaluation", "stages"]
ROOMS += ["orchestration", "planning", "tools", "cli"]
# A room of more modules than a reader takes in at once is two rooms.
MODULES_A_ROOM = 14


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """Top-level packages that a module imports, anywhere, by statement or by name."""
    packages = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}: relative import"
            packages.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            packages.add(str(ast.literal_eval(node.args[0])).split(".")[0])
    return packages


def called(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def room(module: str) -> str:
    """The room of `pipeline.<room>...`, or `stages` for a module that lies directly in it."""
    name = module.split(".")[1] if "." in module else "cli"
    return {"__main__": "cli", **dict.fromkeys(STAGES, "stages")}.get(name, name)


def arrows(path: Path) -> set[str]:
    """The modules of `pipeline` that a module imports, anywhere in it."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules |= set(names if node.module == "pipeline" else [str(node.module)])
    return {module for module in modules if module.split(".")[0] == "pipeline"}


def commands() -> set[str]:
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    return {name.replace("-", "_") for name in names}


def test_a_stage_is_a_module_a_function_a_command_a_rule_and_a_section():
    sections = (ROOT / "docs" / "reference" / "stages.md").read_text("utf-8")
    for stage in STAGES:
        tree = ast.parse((ROOT / "pipeline" / f"{stage}.py").read_text("utf-8"))
        assert stage in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert stage in commands()
        assert stage in RULE_TEXTS
        assert re.search(rf"^## `?{stage}`?$", sections, re.MULTILINE), stage


def test_a_rule_calls_its_command_with_its_settings_version_and_log():
    for stage in STAGES:
        text = RULE_TEXTS[stage]
        assert re.search(rf'command\(\s*"{stage.replace("_", "-")}[ "]', text), stage
        assert f'settings_of("{stage}"' in text
        assert f'stage_version("{stage}")' in text
        assert re.search(rf'LOGS / "{stage}[."]', text), stage


def test_a_stage_s_outputs_lie_in_its_folder():
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
        "figure": ["f", ".md"],
        "measures": ["1of2"],
        "measured": ["a", ".dcm"],
        "cohort_table": [".csv"],
    }
    for stage in STAGES:
        for name in OUTPUTS[stage]:
            member = getattr(layout, name)
            path = member(*arguments[name]) if name in arguments else member
            assert path.is_relative_to(Path("results/heart") / stage), f"{stage}: {path}"
        declared = re.search(r"output:\n(.*?)    params:", RULE_TEXTS[stage], re.DOTALL)[1]
        members = set(re.findall(r"LAYOUT\.(\w+)", declared))
        assert members
        assert members <= set(OUTPUTS[stage])


def test_what_lies_directly_in_the_pipeline_is_a_stage_and_in_tools_a_command():
    modules = {path.stem for path in ROOT.glob("pipeline/*.py")} - {"__init__", "__main__"}
    assert modules == set(STAGES)
    assert {path.parent.name for path in ROOT.glob("pipeline/*/__init__.py")} == set(ROOMS) - {
        "stages"
    }
    entries = {path.stem for path in ROOT.glob("pipeline/tools/*") if path.stem[0] != "_"}
    assert entries == {*commands(), "store"} - {*STAGES, "phantom"}


def test_imports_run_down_the_rooms_and_stages_import_no_stage():
    for path in PIPELINE:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for target in arrows(path) - {"pipeline"}:
            ours, theirs = ROOMS.index(room(module)), ROOMS.index(room(target))
            assert theirs <= ours, f"{module} imports {target}, of a later room"
            siblings = room(module) == "stages" == room(target) and module != target
            assert not siblings, f"{module} imports {target}, another stage"


def test_no_room_is_too_large_and_each_says_what_it_is_for():
    for face in ROOT.glob("pipeline/**/__init__.py"):
        modules = sorted(path.stem for path in face.parent.glob("*.py") if path.stem[0] != "_")
        assert len(modules) <= MODULES_A_ROOM, relative(face)
        text = ast.get_docstring(ast.parse(face.read_text("utf-8"))) or ""
        missing = [name for name in modules if not re.search(rf"\b{name}\b", text)]
        assert not missing, f"{relative(face)}: its docstring does not name {missing}"


def test_every_command_is_a_stage_the_phantom_the_beginning_a_question_or_an_export():
    # writes the configuration that all others read
    beginnings = {"init"}
    # asks something of networks, configurations and results; makes none that a rule could wait for
    questions = {"check", "complexity", "explain", "plan", "trace", "view"}
    # takes results out, for others to use
    exports = {"derivatives", "export", "submission"}
    assert commands() == {*STAGES, "phantom", *beginnings, *questions, *exports}
    assert [group.name for group in app.registered_groups] == ["store"]  # verbs about results
    assert not questions & set(RULE_TEXTS)


def test_every_rule_is_a_stage_the_phantom_or_a_target():
    assert set(RULE_TEXTS) == {*STAGES, "phantom", *TARGETS}
    for target in TARGETS:
        assert re.findall(r"^    (\w+):", RULE_TEXTS[target], re.MULTILINE) == ["input", "message"]


def test_every_rule_that_costs_is_benchmarked():
    rules = [ROOT / "workflow" / "rules" / f"{name}.smk" for name in ("evaluation", "apply")]
    files = [ROOT / "workflow" / "Snakefile", *rules]
    text = "".join(file.read_text("utf-8") for file in files)
    local = "".join(re.findall(r"^localrules:\n((?:    \w+,\n)+)", text, re.MULTILINE))
    cheap = set(re.findall(r"\w+", local))
    assert cheap == {"all", "split", "compare", "tabulate", *TARGETS}
    for rule in set(RULE_TEXTS) - cheap:
        assert re.search(rf'BENCHMARKS / "{rule}[."]', RULE_TEXTS[rule]), rule


def test_directives_stand_in_one_order():
    order = ["input", "output", "params", "log", "benchmark", "wildcard_constraints", "priority"]
    order += ["conda"]
    order += ["threads", "resources", "message", "shell"]
    for rule, text in RULE_TEXTS.items():
        directives = re.findall(r"^    (\w+):", text, re.MULTILINE)
        assert directives == [name for name in order if name in directives], rule


def test_snakefile_is_short_and_includes_in_the_data_s_order():
    text = (ROOT / "workflow" / "Snakefile").read_text("utf-8")
    assert len(text.splitlines()) <= 45
    included = re.findall(r'include: "rules/(\w+)\.smk"', text)
    assert included == [
        "configuration",
        "deployment",
        "call",
        "inputs",
        "cluster",
        "data",
        "mae",
        "segmentation",
        "evaluation",
        "apply",
    ]
    rules = [
        name
        for part in included
        for name, _ in RULES.findall((ROOT / "workflow/rules" / f"{part}.smk").read_text("utf-8"))
    ]
    assert [rule for rule in rules if rule not in TARGETS] == ["phantom", *STAGES]


def test_the_method_knows_no_files_no_settings_and_no_command_line():
    forbidden = {"pipeline", "typer", "pydantic", "yaml", "zarr", "SimpleITK", "pathlib", "os"}
    for path in METHOD:
        assert not imported(path) & forbidden, relative(path)
        calls = called(path) & {"open", "torch.load", "torch.save", "np.load", "np.save"}
        assert not calls, relative(path)


def test_one_module_each_uses_simpleitk_and_zarr():
    owners = {
        "SimpleITK": "pipeline/storage/images/volumes.py",
        "zarr": "pipeline/storage/zarr_store.py",
    }
    for path in PIPELINE:
        for package, owner in owners.items():
            assert package not in imported(path) or relative(path) == owner
        assert "snakemake" not in imported(path), relative(path)
