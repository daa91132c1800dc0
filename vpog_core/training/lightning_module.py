"""Train a network: optimizer, schedule, averaged weights, and how each kind computes its losses."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vpog_core.models.layers import Block
from vpog_core.models.refiner import RefinerNet, ResidualBlock
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.training.data.batch import Batch, HypothesisBatch, RefinerBatch
from vpog_core.training.losses.compute import compute_losses, supervised_pixel
from vpog_core.training.losses.config import LossConfig
from vpog_core.training.losses.refiner import (
    RefinerLossConfig,
    mean_visible_fractions,
    median_pose_errors,
    refined_pose_errors,
    refiner_labels,
    refiner_losses,
    visible_fraction,
)
from vpog_core.training.losses.scorer import CORRECT, mean_probabilities, scorer_loss
from vpog_core.training.mixed_precision import FullPrecisionOutside
from vpog_core.training.refiner_figures import draw_hypotheses, draw_refiner_batch
from vpog_core.training.synthesis.device_augmentation import augment
from vpog_core.training.train_config import OptimizerConfig, SchedulerConfig
from vpog_core.training.validation_figures import draw_batch

PROGRESS_BAR_SCORES = ("loss", "seen_accuracy", "flow_error", "visibility_accuracy", "score_accuracy")
"""Scores on the progress bar, where the losses have them."""


class BatchPosition(NamedTuple):
    """Says where a batch stands in a run.

    Attributes:
        number: of the batch among those of all processes; step: optimizer steps before it.
        batches: of one optimizer step, of all processes.
    """

    number: int = 0
    step: int = 0
    batches: int = 1


class NetworkLightning(L.LightningModule):
    """Trains a network and keeps an averaged copy of its weights.

    All random numbers of a step are drawn from (seed, number of its batch): a run is resumed exactly where it
    stopped, and R processes do what one would do that accumulates R batches.

    Args:
        network: learns; the copy that averages its weights is validated and exported.
        batch_size: items in a batch of one process; epoch_steps: optimizer steps of an epoch.
        photometry: lens, sensor and file effects are applied to the images here, on their device.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: OptimizerConfig,
        scheduler: SchedulerConfig,
        batch_size: int,
        epoch_steps: int,
        seed: int = 0,
        photometry: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.averaged = copy.deepcopy(network).requires_grad_(False)
        self.optimizer, self.scheduler = optimizer, scheduler
        self.batch_size, self.epoch_steps = batch_size, epoch_steps
        self.seed, self.photometry = seed, photometry
        self.items = 0
        """Training items seen so far, by all processes."""

    def training_losses(
        self, network: nn.Module, batch, position: BatchPosition
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and the scores of the batch at this position of the run."""
        raise NotImplementedError

    def validation_losses(self, network: nn.Module, batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and the scores of a validation batch."""
        raise NotImplementedError

    def draw(self, batch, count: int) -> list[np.ndarray]:
        """Return a row [h, w, 3] uint8 for each of the first samples of a validation batch."""
        raise NotImplementedError

    def blocks(self) -> list[nn.Module]:
        """Return the blocks of the learning network that hold most of its memory in training."""
        raise NotImplementedError

    def parts(self) -> list[nn.Module]:
        """Return the parts of the learning network where nearly all of its time goes."""
        raise NotImplementedError

    def checkpoint_blocks(self) -> None:
        """Compute the blocks again in the backward pass, which saves memory."""
        for block in self.blocks():
            block.forward = _Recomputed(block.forward)

    def compile_parts(self) -> None:
        """Compile each part by torch.compile."""
        for part in self.parts():
            part.forward = torch.compile(part.forward, dynamic=False)

    def training_step(self, batch, batch_idx: int) -> Tensor:
        """Compute the loss of one batch."""
        trainer = self.trainer
        position = BatchPosition(
            self.items // self.batch_size + self.global_rank,
            trainer.global_step,
            trainer.accumulate_grad_batches * trainer.world_size,
        )
        torch.manual_seed((self.seed << 32) + position.number)
        loss, scores = self._in_precision(self.training_losses, self.network, batch, position)
        shown = {key: scores[key] for key in PROGRESS_BAR_SCORES if key in scores}
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        scores = {**scores, "lr": rate}
        self.log_dict({f"train/{key}": value for key, value in scores.items()}, batch_size=self.batch_size)
        self.log_dict(shown, prog_bar=True, logger=False, batch_size=self.batch_size)
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx: int) -> None:
        self.items += self.batch_size * self.trainer.world_size

    def on_validation_epoch_start(self) -> None:
        self.averaged.eval()

    def validation_step(self, batch, batch_idx: int) -> None:
        """Log the scores of the averaged weights."""
        torch.manual_seed(batch_idx * self.trainer.world_size + self.global_rank)
        scores = self._in_precision(self.validation_losses, self.averaged, batch)[1]
        self.log_dict(
            {f"val/{key}": value for key, value in scores.items()},
            on_epoch=True, sync_dist=True, batch_size=len(batch),
        )  # fmt: skip

    def gathered(self, rows: list[Tensor]) -> Tensor:
        """Return rows [B, C] of all batches and processes, which have equally many, as one tensor [N, C]."""
        return self.all_gather(torch.cat(rows)).reshape(-1, rows[0].shape[1])

    def _in_precision(self, losses: Callable, network: nn.Module, batch, *position: BatchPosition):
        """Compute losses, the network in the trainer's precision, labels and losses in float32."""
        with FullPrecisionOutside(network, self.device.type) as guarded:
            if self.photometry:
                batch = batch.with_images(augment(getattr(batch, batch.IMAGES)))
            return losses(guarded, batch, *position)

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.AdamW(
            decay_groups(self.network, self.optimizer.weight_decay), lr=self.optimizer.lr,
            betas=tuple(self.optimizer.betas), eps=self.optimizer.eps, fused=True,
        )  # fmt: skip
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def rate(self, step: int) -> float:
        """Return the learning rate after `step` steps over the highest one.

        A linear warm-up, times one until the rate falls, by a cosine.
        """
        config = self.scheduler
        epochs = step / self.epoch_steps if config.stepwise else step // self.epoch_steps
        done = 1 + (epochs / config.t_max - 1) / max(config.decay, 1e-9)
        down = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))
        floor = config.eta_min / self.optimizer.lr
        warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
        return warm * (floor + (1 - floor) * down)

    def configure_gradient_clipping(
        self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None
    ) -> None:
        """Clip the gradient by its norm; a step whose gradient is not finite is skipped.

        Lightning's own clipping refuses the fused optimizer in mixed precision, which bfloat16 does not harm.
        """
        limit = self.optimizer.clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        optimizer.found_inf = (
            ~norm.isfinite()
        ).float()  # fused optimizers skip the step by this flag, without a synchronisation
        self.log("train/gradient_norm", norm, batch_size=self.batch_size)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.update_average(self.trainer.global_step)

    @torch.no_grad()
    def update_average(self, step: int) -> None:
        """Move the averaged weights towards the current ones; faster while the run is young."""
        keep = min(self.optimizer.ema_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), 1 - keep)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["items"] = self.items

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Restore the state of the run; hyperparameters are those of the present configuration."""
        self.items = checkpoint["items"]
        now = self.configure_optimizers()
        state, groups = checkpoint["lr_schedulers"][0], now["optimizer"].param_groups
        state["base_lrs"] = now["lr_scheduler"]["scheduler"].base_lrs
        state["_last_lr"] = [lr * self.rate(state["last_epoch"]) for lr in state["base_lrs"]]
        for saved, group, lr in zip(
            checkpoint["optimizer_states"][0]["param_groups"], groups, state["_last_lr"], strict=True
        ):
            saved.update({key: value for key, value in group.items() if key != "params"}, lr=lr)


class VPOGLightning(NetworkLightning):
    """Trains the coarse network.

    Args:
        loss: weights and options of its loss terms; others: as of `NetworkLightning`.
    """

    def __init__(self, network: VPOGModel, loss: LossConfig, *args, **options) -> None:
        super().__init__(network, *args, **options)
        self.loss = loss

    def training_losses(
        self, network, batch: Batch, position: BatchPosition
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute all terms in one of `matching_every` steps, in all processes, and else retrieval alone."""
        weights, every = self.loss.weights, self.loss.options.matching_every
        weights = weights if position.step % every == 0 else weights.retrieval_alone()
        # Batches that are matched take the pixels in turn.
        matched = position.step // every * position.batches + position.number % position.batches
        return compute_losses(
            network, batch, weights, offset=supervised_pixel(matched), options=self.loss.options
        )

    def validation_losses(self, network, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute all terms; poses are scored of all queries, not only of as many as training takes."""
        options = replace(self.loss.options, pose_queries=len(batch) * batch.query_rgb.shape[1])
        return compute_losses(
            network, batch, self.loss.weights, offset=(2, 1), predicted_fraction=1.0, options=options
        )

    def draw(self, batch: Batch, count: int) -> list[np.ndarray]:
        return draw_batch(self.averaged, batch, count)

    def blocks(self) -> list[nn.Module]:
        """Return the attention blocks of encoder and AA module."""
        aa = self.network.aa_module
        return [*self.network.encoder.enc_blocks, *aa.global_blocks, *aa.local_blocks]

    def parts(self) -> list[nn.Module]:
        """Return encoder and AA module."""
        return [self.network.encoder, self.network.aa_module]


class RefinerLightning(NetworkLightning):
    """Trains the refiner, all but its scorer.

    Args:
        loss: weights of its loss terms; others: as of `NetworkLightning`.
    """

    def __init__(self, network: RefinerNet, loss: RefinerLossConfig, *args, **options) -> None:
        super().__init__(network, *args, **options)
        self.loss = loss
        self.network.scorer.requires_grad_(False)
        self.pairs: list[Tensor] = []
        """[B, 6] for each validation batch: the errors of its pairs, what is predicted visible of the object,
        and whether they show the same view."""

    def training_losses(
        self, network, batch: RefinerBatch, position: BatchPosition
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return refiner_losses(network.trace(*batch.inputs()), refiner_labels(batch), batch, self.loss)

    def validation_losses(self, network, batch: RefinerBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute all terms, that of the pose for all pairs; what is told of all batches together is kept."""
        trace, labels = network.trace(*batch.inputs()), refiner_labels(batch)
        errors = refined_pose_errors(trace.comparison, labels, batch)
        fraction = visible_fraction(trace.comparison.visibility, labels)
        self.pairs.append(torch.cat((errors, fraction[:, None], labels.same_view[:, None]), dim=1))
        loss, scores = refiner_losses(trace, labels, batch, replace(self.loss, pose_pairs=len(batch)))
        return loss, without(scores, mean_visible_fractions(fraction, labels.same_view))

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.pairs = []

    def on_validation_epoch_end(self) -> None:
        """Log medians of errors and means of fractions, over the pairs of all batches and processes."""
        rows = self.gathered(self.pairs)
        errors, fraction, same_view = rows[:, :-2], rows[:, -2], rows[:, -1] > 0
        scores = median_pose_errors(errors, same_view) | mean_visible_fractions(fraction, same_view)
        self.log_dict({f"val/{key}": value for key, value in scores.items()}, sync_dist=True)

    def draw(self, batch: RefinerBatch, count: int) -> list[np.ndarray]:
        return draw_refiner_batch(self.averaged, batch, count)

    def blocks(self) -> list[nn.Module]:
        """Return the residual and attention blocks."""
        return [m for m in self.network.modules() if isinstance(m, (ResidualBlock, Block))]

    def parts(self) -> list[nn.Module]:
        """Return all but the correlations, which are a matrix product and a gather."""
        of = self.network
        return [of.trunk, of.attention, of.coarse_decoder, of.fine_decoder]


class ScorerLightning(NetworkLightning):
    """Trains the scorer of a refiner on recorded hypotheses; the refiner stays as it is.

    Args:
        as of `NetworkLightning`.
    """

    def __init__(self, network: RefinerNet, *args, **options) -> None:
        super().__init__(network, *args, **options)
        self.network.requires_grad_(False)
        self.network.scorer.requires_grad_(True)
        self.scored: list[Tensor] = []
        """[B, 2] for each validation batch: the probabilities of its poses, and whether they are correct."""

    def training_losses(
        self, network, batch: HypothesisBatch, position: BatchPosition
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return scorer_loss(network.trace(*batch.inputs()).comparison.score, batch.error)

    def validation_losses(self, network, batch: HypothesisBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss, and keep the probabilities for their means over all batches."""
        score = network.trace(*batch.inputs()).comparison.score
        probability, is_correct = score.sigmoid(), batch.error < CORRECT
        self.scored.append(torch.stack((probability, is_correct.float()), dim=1))
        loss, scores = scorer_loss(score, batch.error)
        return loss, without(scores, mean_probabilities(probability, is_correct))

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.scored = []

    def on_validation_epoch_end(self) -> None:
        """Log the mean probabilities of both kinds of poses, over all batches and processes."""
        probability, is_correct = self.gathered(self.scored).unbind(1)
        scores = mean_probabilities(probability, is_correct > 0)
        self.log_dict({f"val/{key}": value for key, value in scores.items()}, sync_dist=True)

    def draw(self, batch: HypothesisBatch, count: int) -> list[np.ndarray]:
        return draw_hypotheses(self.averaged, batch, count)

    def blocks(self) -> list[nn.Module]:
        """Return none: nothing but the scorer is kept for the backward pass."""
        return []

    def parts(self) -> list[nn.Module]:
        """Return all but the correlations, which are a matrix product and a gather."""
        of = self.network
        return [of.trunk, of.attention, of.coarse_decoder, of.fine_decoder, of.scorer]


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Return AdamW's parameter groups: matrices and kernels with decay, vectors (biases, norms) without."""
    learning = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]


def without(scores: dict[str, Tensor], others: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the scores that are not among others."""
    return {key: value for key, value in scores.items() if key not in others}


class _Recomputed:
    def __init__(self, forward: Callable[..., Tensor]) -> None:
        self.forward = forward

    def __call__(self, *args: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return self.forward(*args)
        return checkpoint(self.forward, *args, use_reentrant=False, preserve_rng_state=False)
