include: "sources.smk"


rule phantom:
    output:
        LAYOUT.phantom_truth,
    params:
        arguments=phantom_arguments,
        settings=settings_of("phantom"),
        version=stage_version("datasets/phantoms/phantom"),
    log:
        LOGS / "phantom.log",
    benchmark:
        BENCHMARKS / "phantom.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
    message:
        "phantom {wildcards.dataset}"
    shell:
        "python -m pipeline phantom {params.arguments} 2>&1 | tee -i -- {log:q}"


rule ingest:
    input:
        raw_files,
    output:
        LAYOUT.cases,
    params:
        settings=settings_of("ingest", also=listed_cases),
        version=stage_version("ingest"),
        batch=batch_option,
    log:
        LOGS / "ingest.log",
    benchmark:
        BENCHMARKS / "ingest.tsv"
    conda:
        "../../envs/data.yaml"
    threads: SETTINGS.resources.threads
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
    message:
        "ingest {wildcards.dataset}"
    shell:
        command("ingest {params.batch}")


# Of many cases these store a part each; the rule above takes over what they have stored.
use rule ingest as ingest_batch with:
    output:
        LAYOUT.ingest_batch("{batch}"),
    log:
        LOGS / "ingest" / "{batch}.log",
    benchmark:
        BENCHMARKS / "ingest" / "{batch}.tsv"
    wildcard_constraints:
        batch=r"\d+of\d+",
    message:
        "ingest {wildcards.dataset}: batch {wildcards.batch}"


rule split:
    input:
        LAYOUT.cases,
    output:
        LAYOUT.split,
    params:
        settings=settings_of("split"),
        version=stage_version("split"),
    log:
        LOGS / "split.log",
    conda:
        "../../envs/data.yaml"
    threads: 1
    message:
        "split {wildcards.dataset}"
    shell:
        command("split")
