import pytest
from torch.utils.data import Dataset

from vpog_core.training.item_loader import ItemLoader
from vpog_core.types import VPOGError

DAMAGED = "The image 'a: b.jpg' cannot be read: it is not whole."


class Items(Dataset):
    """Ten numbers; the last one cannot be read."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> int:
        if index == 9:
            raise self.error
        return index


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("error", [VPOGError(DAMAGED), FileNotFoundError(2, "No such file", "views.npz")])
def test_items_come_in_order_and_an_error_has_its_own_text(workers, error):
    loaded = iter(ItemLoader(Items(error), batch_size=3, num_workers=workers))
    assert [next(loaded).tolist() for _ in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    with pytest.raises(type(error)) as raised:
        next(loaded)
    assert str(raised.value) == str(error)


def test_a_defect_keeps_the_traceback_of_its_worker():
    with pytest.raises(ZeroDivisionError, match="in __getitem__"):
        list(ItemLoader(Items(ZeroDivisionError("division by zero")), batch_size=5, num_workers=1))
