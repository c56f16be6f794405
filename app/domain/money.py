"""Money: an exact decimal and an ISO 4217 currency, and nothing that rounds.

Amounts of different currencies are never added here or anywhere; converting with dated exchange
rates is another module's business.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

AMOUNT_PATTERN = r"^(0|[1-9][0-9]{0,14})(\.[0-9]{1,4})?$"
MOST = Decimal("999999999999999.9999")

_amount = re.compile(AMOUNT_PATTERN, re.ASCII)


def _codes(minor_units: int, codes: str) -> dict[str, int]:
    return dict.fromkeys(codes.split(), minor_units)


# ISO 4217:2015 list one (active codes of circulating currencies and national funds), by the digits
# after the point in which each is counted. Precious metals, testing codes and units of account
# (XAU, XTS, XXX, XDR …) price no deal and are left out.
_ACTIVE = {
    **_codes(0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
    **_codes(
        2,
        """
        AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD
        CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS
        GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD
        LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB
        PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP
        SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
        """,
    ),
    **_codes(3, "BHD IQD JOD KWD LYD OMR TND"),
    **_codes(4, "CLF UYW"),
}
# List three, as far as imported history of the last decade still bears them.
_WITHDRAWN = _codes(2, "ANG BGN BYR CUC HRK LTL MRO SLL STD VEF ZMK ZWL")

MINOR_UNITS: Mapping[str, int] = MappingProxyType(_ACTIVE | _WITHDRAWN)
"""Every currency known, and the digits after the point in which it is counted."""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount of one currency: 0 to 999,999,999,999,999.9999, exactly as it was given."""

    amount: Decimal
    currency: str

    def __post_init__(self) -> None:
        if self.currency not in MINOR_UNITS:
            raise ValueError(f"{self.currency!r} is no ISO 4217 currency")
        if not (self.amount.is_finite() and 0 <= self.amount <= MOST):
            raise ValueError("an amount is 0 or more and has at most 15 digits before the point")
        if self.amount != round(self.amount, 4):
            raise ValueError("an amount has at most 4 digits after the point")

    def __str__(self) -> str:
        return f"{written(self.amount, self.currency)} {self.currency}"


def parse_amount(text: str) -> Decimal:
    """`1250.00` as an exact decimal. Raises ValueError for signs, exponents and spaces."""
    if not _amount.fullmatch(text):
        raise ValueError(
            "an amount is written like 1250.00: at most 15 digits, and after a point at most 4"
            " more; it has no sign, as none is negative, and nothing between thousands"
        )
    return Decimal(text)


def written(amount: Decimal, currency: str) -> str:
    """The amount with at least the digits in which the currency is counted: 1250.00, 1250 yen.

    Digits beyond those are kept, zeros at their end are not; nothing is rounded.
    """
    whole, _, fraction = f"{amount:f}".partition(".")
    fraction = fraction.rstrip("0").ljust(MINOR_UNITS[currency], "0")
    return f"{whole}.{fraction}" if fraction else whole
