import torch
from threadpoolctl import threadpool_info

from histoforensics.benchmarks.threads import limited_threads


def test_threads_are_limited_inside_the_block_and_given_back_after_it():
    before = torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]
    with limited_threads(1):
        assert torch.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpool_info()} <= {1}
    assert (torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]) == before
