"""`python -m longtail.cost TARGET`."""

from longtail.base.errors import run_main
from longtail.cost.estimate import main

run_main(main)
