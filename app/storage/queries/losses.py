"""Which moves lost the deals?"""

from app.storage.queries.question import Question


def losing_moves(question: Question) -> str:
    """The moves that lost deals in the period: of a deal's at one instant, the last."""

    def losses(t: str) -> str:
        return f"""{t}.workspace_id = :workspace AND {t}.pipeline_id = :pipeline
          AND {t}.loss_reason IS NOT NULL AND {question.standing(t)}
          AND {t}.occurred_at < :as_of{question.period(f"{t}.occurred_at")}"""

    return f"""
        SELECT t.opportunity_id, t.occurred_at, t.from_slot, t.loss_reason
        FROM transition AS t WHERE {losses("t")} AND NOT EXISTS (
            SELECT FROM transition AS later WHERE {losses("later")}
              AND later.opportunity_id = t.opportunity_id
              AND later.occurred_at = t.occurred_at AND later.seq > t.seq
        )"""
