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
        settings=settings_of("ingest"),
        version=stage_version("ingest"),
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
        command("ingest")


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
