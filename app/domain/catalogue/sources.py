"""Where the methods come from: one line a source, as a paper would cite it."""

from typing import Final

AALEN_JOHANSEN: Final = (
    "Aalen and Johansen, An Empirical Transition Matrix for Non-homogeneous Markov Chains Based on"
    " Censored Observations, Scandinavian Journal of Statistics 5 (1978)"
)
HODGES_LEHMANN: Final = (
    "Hodges and Lehmann, Estimates of Location Based on Rank Tests, The Annals of Mathematical"
    " Statistics 34 (1963)"
)
HOLLANDER_WOLFE: Final = "Hollander and Wolfe, Nonparametric Statistical Methods, 2nd ed. (1999)"
HYNDMAN_FAN: Final = (
    "Hyndman and Fan, Sample Quantiles in Statistical Packages, The American Statistician 50"
    " (1996), type 7"
)
KAPLAN_MEIER: Final = (
    "Kaplan and Meier, Nonparametric Estimation from Incomplete Observations, JASA 53 (1958)"
)
LITTLE: Final = "Little, A Proof for the Queuing Formula: L = λW, Operations Research 9 (1961)"
LITTLE_GRAVES: Final = "Little and Graves, Little's Law, in: Building Intuition, Springer (2008)"
NEWCOMBE: Final = (
    "Newcombe, Interval Estimation for the Difference between Independent Proportions, Statistics"
    " in Medicine 17 (1998), method 10"
)
WILSON: Final = (
    "Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927)"
)
