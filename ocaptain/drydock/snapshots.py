"""What is done with the checkpoints of a sprite (:mod:`.checkpoints` copies the disks).

::

    create    turn among the copies ── lock ── stop all processes ── copy ── go on ── record
    restore   turn among the copies ── lock ── end all processes ── copy beside ── swap ── record ── boot
    delete    record ── remove the copy

A sprite takes one turn at most. The copy of a checkpoint whose record cannot be written (a full disk) goes.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ocaptain.drydock import checkpoints, pools
from ocaptain.drydock.errors import ApiError

if TYPE_CHECKING:
    from ocaptain.drydock.sprite import Sprite


async def create_checkpoint(sprite: Sprite, comment: str) -> checkpoints.Checkpoint:
    """Copy the disk, with all processes frozen meanwhile.

    Raises:
        ApiError: 404: the sprite was destroyed meanwhile.
        DrydockError: it cannot be copied; nothing is left of the copy.
    """
    async with sprite.copy_lock, pools.COPY_TURNS, sprite.lock:
        if sprite.is_destroyed:
            raise ApiError(404, "not_found", f"sprite not found: {sprite.name}")
        directory = sprite.box.directory
        last_number = max([int(one.id[1:]) for one in sprite.record.checkpoints], default=0)
        new = checkpoints.Checkpoint(
            id=f"v{last_number + 1}", create_time=sprite.now(), comment=comment, source_id=sprite.record.stands_on
        )
        await sprite.box.freeze()
        try:
            await pools.copying(functools.partial(checkpoints.save_checkpoint, directory, new.id))
        finally:
            await sprite.box.thaw()
        try:
            async with sprite.changing() as record:
                record.checkpoints.append(new)
                record.stands_on = new.id
        except BaseException:
            await pools.removing(functools.partial(checkpoints.delete_checkpoint, directory, new.id))
            raise
        return new


def find_checkpoint(sprite: Sprite, name: str) -> checkpoints.Checkpoint:
    """Return a checkpoint; raise ApiError (404) if it does not exist."""
    for one in sprite.record.checkpoints:
        if one.id == name:
            return one
    raise ApiError(404, "not_found", f"checkpoint not found: {name}")


async def restore_checkpoint(sprite: Sprite, name: str) -> None:
    """Restore the disk from a checkpoint; sessions end, services start again.

    Raises:
        ApiError: 404: the checkpoint or the sprite does not exist.
        DrydockError: it cannot be copied; the sprite runs with the disk it had.
    """
    found = find_checkpoint(sprite, name)

    async def copy_back() -> None:
        await pools.copying(functools.partial(checkpoints.restore_checkpoint, sprite.box.directory, found.id))
        async with sprite.changing() as record:
            record.stands_on = found.id

    async with sprite.copy_lock, pools.COPY_TURNS:
        await sprite.restart(copy_back)


async def delete_checkpoint(sprite: Sprite, name: str) -> None:
    """Delete a checkpoint.

    Raises:
        ApiError: 404: it does not exist; 409: the sprite stands on it ("You can't delete the checkpoint you are on",
            the live service's documentation; its status is not known).
        DrydockError: the record cannot be written; the checkpoint stays.
    """
    async with sprite.copy_lock:  # it may be restored just now
        found = find_checkpoint(sprite, name)
        if sprite.record.stands_on == found.id:
            message = f"checkpoint {found.id} is the one that the sprite is on: restore another first"
            raise ApiError(409, "conflict", message)
        async with sprite.changing() as record:
            record.checkpoints = [one for one in record.checkpoints if one.id != found.id]
        await pools.removing(functools.partial(checkpoints.delete_checkpoint, sprite.box.directory, found.id))
