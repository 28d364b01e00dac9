"""With accounting: `sacct` as the status command, and an account that is charged."""

import pytest

from tests.slurm.conftest import CONFIG, Project

pytestmark = pytest.mark.timeout(1800)


def test_jobs_stand_in_the_accounts(accounting_cluster, edited_profile, tmp_path):
    profile = edited_profile(
        {"default-resources": {"slurm_account": "research"}, "slurm-status-command": "sacct"}
    )
    project = Project(tmp_path, accounting_cluster)
    project.configure(CONFIG)
    assert project.run("results/heart/split/split.json", profile=profile) == 0, project.output
    columns = "Comment,State,Account,Partition,NodeList,ReqCPUS,ReqMem,Timelimit"
    lines = accounting_cluster.ask("sacct", "-X", "-n", "-P", "-o", columns).splitlines()
    asked = "COMPLETED|research|main|n1|{}|1900M|00:07:00"
    assert lines == [
        f"rule_phantom_wildcards_heart|{asked.format(1)}",
        f"rule_ingest_wildcards_heart|{asked.format(2)}",
    ]
