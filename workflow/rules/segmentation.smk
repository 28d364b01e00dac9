rule train_segmentation:
    input:
        LAYOUT.cases,
        LAYOUT.split,
        experiment_residuals,
        experiment_mae,
        pretrained_weights,
    output:
        LAYOUT.model("{experiment}", "{subset}"),
    params:
        settings=settings_of("train_segmentation", "experiment"),
        version=stage_version("train_segmentation"),
    log:
        LOGS / "train_segmentation" / "{experiment}-{subset}.log",
    benchmark:
        BENCHMARKS / "train_segmentation" / "{experiment}-{subset}.tsv"
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
        "train_segmentation {wildcards.dataset}: {wildcards.experiment}, subset {wildcards.subset}"
    shell:
        command(
            "train-segmentation --experiment {wildcards.experiment} --subset {wildcards.subset}"
        )


rule predict:
    input:
        cases_of_job,
        predicting,
        experiment_residuals,
    output:
        LAYOUT.predictions("{experiment}", "{subset}{batch}"),
    params:
        settings=settings_of("predict", "experiment"),
        version=stage_version("predict"),
        batch=batch_option,
    log:
        LOGS / "predict" / "{experiment}-{subset}{batch}.log",
    benchmark:
        BENCHMARKS / "predict" / "{experiment}-{subset}{batch}.tsv"
    # before further maps are made, where those that were read are deleted
    priority: 4 if GIVES_BACK else 0
    conda:
        "../../envs/torch.yaml"
    threads: prediction_threads
    resources:
        mem_mb=prediction_memory_mb,
        runtime=prediction_minutes,
        gpu=prediction_gpus,
    message:
        "predict {wildcards.dataset}: {wildcards.experiment}, subset {wildcards.subset}{wildcards.batch}"
    shell:
        command(
            "predict --experiment {wildcards.experiment} --subset {wildcards.subset} "
            "{params.batch}"
        )


rule postprocess:
    input:
        cases_of_cut,
        LAYOUT.predictions("{experiment}", "{subset}{batch}"),
    output:
        LAYOUT.masks("{experiment}", "{subset}{batch}"),
    params:
        settings=settings_of("postprocess"),
        version=stage_version("postprocess"),
        batch=batch_option,
    log:
        LOGS / "postprocess" / "{experiment}-{subset}{batch}.log",
    benchmark:
        BENCHMARKS / "postprocess" / "{experiment}-{subset}{batch}.tsv"
    conda:
        "../../envs/data.yaml"
    threads: SETTINGS.resources.threads
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
    message:
        "postprocess {wildcards.dataset}: {wildcards.experiment}, subset {wildcards.subset}{wildcards.batch}"
    shell:
        command(
            "postprocess --experiment {wildcards.experiment} --subset {wildcards.subset} "
            "{params.batch}"
        )
