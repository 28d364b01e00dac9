rule measure:
    input:
        measured_files,
    output:
        LAYOUT.measures("{batch}"),
    params:
        settings=settings_of("measure"),
        version=stage_version("measure"),
    log:
        LOGS / "measure" / "{batch}.log",
    benchmark:
        BENCHMARKS / "measure" / "{batch}.tsv"
    wildcard_constraints:
        batch=r"\d+of\d+",
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
    message:
        "measure {wildcards.dataset}: batch {wildcards.batch}"
    shell:
        command("measure --batch {wildcards.batch}")


rule summarise:
    input:
        LAYOUT.cases,
        measured_batches,
    output:
        report(LAYOUT.cohort_table(".csv"), **shown_in_report("Cohorts")),
        LAYOUT.cohort_table(".parquet"),
        report(LAYOUT.cohort_page, **shown_in_report("Cohorts")),
    params:
        settings=settings_of("summarise"),
        version=stage_version("summarise"),
        batches=lambda wildcards: len(batches(wildcards.dataset).predict),
    log:
        LOGS / "summarise.log",
    benchmark:
        BENCHMARKS / "summarise.tsv"
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
    message:
        "summarise {wildcards.dataset}"
    shell:
        command("summarise --batches {params.batches}")


# Target: `snakemake apply --config model=… root=…` applies a trained model to a cohort.
localrules:
    apply,


rule apply:
    input:
        wanted_cohort,
    message:
        "all results"
