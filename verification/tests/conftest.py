import os

import torch
from hypothesis import settings

torch.set_num_threads(1)

settings.register_profile("default", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.register_profile("full", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("SPATTEN_HYPOTHESIS", "default"))
