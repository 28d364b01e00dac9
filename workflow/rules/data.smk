rule phantom:
    output:
        LAYOUT.phantom_truth,
    log:
        LOGS / "phantom.log",
    benchmark:
        BENCHMARKS / "phantom.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb,
        runtime=SETTINGS.resources.minutes,
    params:
        arguments=phantom_arguments,
        settings=settings_of("phantom"),
        version=stage_version("datasets/phantom"),
    message:
        "phantom {wildcards.dataset}"
    shell:
        "python -m pipeline phantom {params.arguments} 2>&1 | tee {log:q}"


rule ingest:
    input:
        raw_files,
    output:
        LAYOUT.cases,
    log:
        LOGS / "ingest.log",
    benchmark:
        BENCHMARKS / "ingest.tsv"
    conda:
        "../../envs/data.yaml"
    threads: SETTINGS.resources.threads
    resources:
        mem_mb=memory_mb,
        runtime=SETTINGS.resources.minutes,
    params:
        settings=settings_of("ingest"),
        version=stage_version("ingest"),
    message:
        "ingest {wildcards.dataset}"
    shell:
        command("ingest")


rule split:
    input:
        LAYOUT.cases,
    output:
        LAYOUT.split,
    log:
        LOGS / "split.log",
    conda:
        "../../envs/data.yaml"
    threads: 1
    params:
        settings=settings_of("split"),
        version=stage_version("split"),
    message:
        "split {wildcards.dataset}"
    shell:
        command("split")
