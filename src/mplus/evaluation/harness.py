"""Former place of ``evaluation.integrations.lm_eval``; its command and its names still work from here."""

import sys

from mplus.evaluation.integrations.lm_eval import HarnessModel as HarnessModel
from mplus.evaluation.integrations.lm_eval import main as main
from mplus.evaluation.integrations.lm_eval import register as register

if __name__ == "__main__":
    sys.exit(main())
