rule evaluate:
    input:
        LAYOUT.cases,
        LAYOUT.split,
        subset_files("predictions"),
        subset_files("masks"),
        scored_batches,
    output:
        report(LAYOUT.scores("{experiment}{batch}"), **shown_in_report("Scores", "experiment")),
        LAYOUT.summary("{experiment}{batch}"),
    params:
        settings=settings_of("evaluate", "experiment"),
        version=stage_version("evaluate"),
        batch=batch_option,
    log:
        LOGS / "evaluate" / "{experiment}{batch}.log",
    benchmark:
        BENCHMARKS / "evaluate" / "{experiment}{batch}.tsv"
    conda:
        "../../envs/data.yaml"
    threads: SETTINGS.resources.threads
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
    message:
        "evaluate {wildcards.dataset}: {wildcards.experiment}{wildcards.batch}"
    shell:
        command("evaluate --experiment {wildcards.experiment} {params.batch}")


rule compare:
    input:
        experiment_files("scores"),
        experiment_files("summary"),
    output:
        LAYOUT.table(".md"),
        report(LAYOUT.table(".csv"), **shown_in_report("Tables")),
    params:
        settings=settings_of("compare"),
        version=stage_version("compare"),
    log:
        LOGS / "compare.log",
    conda:
        "../../envs/report.yaml"
    threads: 1
    message:
        "compare {wildcards.dataset}"
    shell:
        command("compare")


rule tabulate:
    input:
        LAYOUT.cases,
        LAYOUT.split,
        experiment_files("scores"),
        experiment_files("summary"),
    output:
        LAYOUT.chosen_table("{table}", ".md"),
        report(LAYOUT.chosen_table("{table}", ".csv"), **shown_in_report("Tables", "table")),
    params:
        settings=settings_of("tabulate", "table"),
        version=stage_version("tabulate"),
    log:
        LOGS / "tabulate" / "{table}.log",
    conda:
        "../../envs/torch.yaml"
    threads: 1
    message:
        "tabulate {wildcards.dataset}: {wildcards.table}"
    shell:
        command("tabulate --table {wildcards.table}")


# Targets: `snakemake table1` and `snakemake ablations` make the configuration's tables, and what
# they need; `table1` the reports, too.
localrules:
    table1,
    ablations,


rule table1:
    input:
        wanted_tables,
        reports_beside_tables,
    message:
        "all tables"


rule ablations:
    input:
        wanted_tables,
    message:
        "all tables"


rule draw:
    input:
        figure_files,
    output:
        LAYOUT.figure("{figure}", ".md"),
        LAYOUT.figure("{figure}", ".svg"),
        LAYOUT.figure("{figure}", ".pdf"),
        report(LAYOUT.figure("{figure}", ".png"), **shown_in_report("Figures", "figure")),
    params:
        settings=settings_of("draw"),
        version=stage_version("draw"),
    log:
        LOGS / "draw" / "{figure}.log",
    benchmark:
        BENCHMARKS / "draw" / "{figure}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: SETTINGS.resources.threads
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
    message:
        "draw {wildcards.dataset}: {wildcards.figure}"
    shell:
        command("draw --figure {wildcards.figure}")


# Target: `snakemake figures` draws every figure that a data set has, after what it needs.
localrules:
    figures,


rule figures:
    input:
        wanted_figures,
    message:
        "all figures"


rule report:
    input:
        LAYOUT.cases,
        LAYOUT.split,
        LAYOUT.table(".md"),
        LAYOUT.table(".csv"),
        experiment_files("scores"),
        experiment_files("summary"),
        subset_files("model", repeated=False),
        subset_files("masks", repeated=False),
    output:
        report(LAYOUT.report, **shown_in_report("Reports")),
    params:
        settings=settings_of("report"),
        version=stage_version("report"),
    log:
        LOGS / "report.log",
    benchmark:
        BENCHMARKS / "report.tsv"
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
    message:
        "report {wildcards.dataset}"
    shell:
        command("report")
