rule measure:
    input:
        measured_files,
    output:
        report(LAYOUT.cohort_table(".csv"), **shown_in_report("Cohorts")),
        LAYOUT.cohort_table(".parquet"),
        report(LAYOUT.cohort_page, **shown_in_report("Cohorts")),
    params:
        settings=settings_of("measure"),
        version=stage_version("measure"),
        batch=batch_option,
    log:
        LOGS / "measure.log",
    benchmark:
        BENCHMARKS / "measure.tsv"
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
    message:
        "measure {wildcards.dataset}"
    shell:
        command("measure {params.batch}")


# These measure a part of the scans each, and the rule above gathers what they have measured.
use rule measure as measure_batch with:
    output:
        LAYOUT.measures("{batch}"),
    log:
        LOGS / "measure" / "{batch}.log",
    benchmark:
        BENCHMARKS / "measure" / "{batch}.tsv"
    wildcard_constraints:
        batch=r"\d+of\d+",
    message:
        "measure {wildcards.dataset}: batch {wildcards.batch}"


# Target: `snakemake apply --config model=… root=…` applies a trained model to a cohort.
localrules:
    apply,


rule apply:
    input:
        wanted_cohort,
    message:
        "all results"
