include: "applied.smk"


# Where a bundle's model is applied, its weights take the place of those of every training.
ruleorder: unpack > train_mae
ruleorder: unpack > train_segmentation


rule unpack:
    input:
        applied_model,
    output:
        LAYOUT.unpacked,
        UNPACKED,
    params:
        settings=settings_of("unpack"),
        version=stage_version("unpack"),
    log:
        LOGS / "unpack.log",
    benchmark:
        BENCHMARKS / "unpack.tsv"
    priority: 3
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
    message:
        "unpack {wildcards.dataset}"
    shell:
        command("unpack")


rule train_mae:
    input:
        LAYOUT.cases,
        LAYOUT.split,
        pretrained_checkpoint,
    output:
        LAYOUT.mae("{mae}"),
    params:
        settings=settings_of("train_mae", "mae"),
        version=stage_version("train_mae"),
    log:
        LOGS / "train_mae" / "{mae}.log",
    benchmark:
        BENCHMARKS / "train_mae" / "{mae}.tsv"
    # every other training waits for the residuals, so what leads to them goes first
    priority: 2
    conda:
        "../../envs/torch.yaml"
    threads: training_threads
    resources:
        mem_mb=training_memory_mb,
        runtime=training_minutes,
        gpu=training_gpus,
        nodes=training_nodes,
        tasks=training_tasks,
    message:
        "train_mae {wildcards.dataset}: {wildcards.mae}"
    shell:
        command("train-mae --mae {wildcards.mae}")


rule residual_maps:
    input:
        cases_of_job,
        residual_models,
    output:
        LAYOUT.residual_batch("{residuals}", "{batch}"),
        MAPS_THERE,
    params:
        settings=settings_of("residual_maps", "residuals"),
        version=stage_version("residual_maps"),
    log:
        LOGS / "residual_maps" / "{residuals}-{batch}.log",
    benchmark:
        BENCHMARKS / "residual_maps" / "{residuals}-{batch}.tsv"
    wildcard_constraints:
        batch=r"\d+of\d+",
    priority: 1
    conda:
        "../../envs/torch.yaml"
    threads: SETTINGS.resources.threads
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
        gpu=a_card,
    message:
        "residual_maps {wildcards.dataset}: {wildcards.residuals}, batch {wildcards.batch}"
    shell:
        command(
            "residual-maps --residuals {wildcards.residuals} --batch {wildcards.batch}"
            + (" --only-read" if GIVES_BACK else "")
        )
