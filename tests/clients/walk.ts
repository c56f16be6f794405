// The main job with the generated TypeScript types: a pipeline, a deal, its moves, what is told of it.
// Compiled with --strict, so each field it reads is one that the description promises. The lines
// marked @ts-expect-error must not compile: the types are no `any`.
import createClient from "openapi-fetch";

import type { components, paths } from "./api.js";

declare const process: { env: Record<string, string | undefined> };

const [baseUrl, key] = [process.env["BASE"] ?? "", process.env["KEY"] ?? ""];
const api = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });

function must<T>(answer: { data?: T; error?: unknown; response: Response }, status: number): T {
  if (answer.response.status !== status || answer.data === undefined) {
    throw new Error(`${answer.response.url}: ${JSON.stringify(answer.error)}`);
  }
  return answer.data;
}

function equal(found: unknown, wanted: unknown): void {
  if (JSON.stringify(found) !== JSON.stringify(wanted)) {
    throw new Error(`${JSON.stringify(found)} is not ${JSON.stringify(wanted)}`);
  }
}

const once = (name: string) => ({ "Idempotency-Key": `typescript-${name}` });

// Who am I?
const me = must(await api.GET("/v1/me"), 200);
equal(me.scopes.includes("admin"), true);

// A pipeline from a template.
const pipeline = must(
  await api.POST("/v1/pipelines", {
    params: { header: once("pipeline") },
    body: { key: "typescript", template: "b2b", timezone: "Europe/Berlin" },
  }),
  201,
);
const stages = pipeline.stages.filter((stage) => stage.kind === "open");

// A deal, and the same request again: the first answer, told again.
const body: components["schemas"]["OpportunityCreate"] = {
  pipeline: pipeline.key,
  name: "Ten seats for the design team",
  external_id: "CRM-1",
  amount: { amount: "1250.00", currency: "EUR" },
  opened_at: "2026-01-05T09:00:00Z",
};
const deal = must(
  await api.POST("/v1/opportunities", { params: { header: once("deal") }, body }),
  201,
);
const again = await api.POST("/v1/opportunities", { params: { header: once("deal") }, body });
equal(again.response.headers.get("Idempotent-Replayed"), "true");
equal(must(again, 201), deal);

// @ts-expect-error: an amount is a string, never a number
const wrong: components["schemas"]["Money"] = { amount: 1250, currency: "EUR" };
equal(typeof wrong.amount, "number");

// Where it may go, and what is missing: a move without it is refused, with a problem that is typed.
const id = { opportunity_id: deal.id };
const next = must(
  await api.GET("/v1/opportunities/{opportunity_id}/next-stages", { params: { path: id } }),
  200,
);
equal(next.items.length > 0, true);
const to = { to_stage: stages[1]!.key };
const refused = await api.POST("/v1/opportunities/{opportunity_id}/transitions", {
  params: { path: id, header: once("refused") },
  body: to,
});
if (refused.error === undefined) throw new Error("a deal without an owner was moved");
const problem: components["schemas"]["Problem"] = refused.error;
equal([problem.status, problem.code], [422, "requirements_missing"]);
equal(problem.errors[0]?.pointer, "/owner");
// @ts-expect-error: a problem has no such field
equal(problem.reason, undefined);

// What is missing is added, by merge-patch on the version that was read.
const owned = must(
  await api.PATCH("/v1/opportunities/{opportunity_id}", {
    params: { path: id, header: { "If-Match": `"${deal.version}"` } },
    body: { owner: "tom", probability: null },
  }),
  200,
);
equal([owned.owner, owned.amount?.amount], ["tom", "1250.00"]);

// The move, decided on that version; the same again; one that was decided on an old version.
const move = {
  params: { path: id, header: { ...once("move"), "If-Match": `"${owned.version}"` } },
  body: { ...to, note: "Called back" },
};
const moved = must(await api.POST("/v1/opportunities/{opportunity_id}/transitions", move), 201);
equal(moved.transition.from_stage, stages[0]!.key);
const replayed = await api.POST("/v1/opportunities/{opportunity_id}/transitions", move);
equal(replayed.response.headers.get("Idempotent-Replayed"), "true");
equal(must(replayed, 201).transition.id, moved.transition.id);
const stale = await api.POST("/v1/opportunities/{opportunity_id}/transitions", {
  params: { path: id, header: { ...once("stale"), "If-Match": `"${deal.version}"` } },
  body: { to_stage: stages[2]!.key },
});
equal([stale.response.status, stale.error?.code], [412, "stale"]);

// Won; the funnel knows.
const won = pipeline.stages.find((stage) => stage.kind === "won")!;
const closed = must(
  await api.POST("/v1/opportunities/{opportunity_id}/transitions", {
    params: { path: id, header: once("win") },
    body: { to_stage: won.key },
  }),
  201,
);
equal([closed.transition.kind, closed.opportunity.status], ["won", "won"]);
const funnel = must(
  await api.GET("/v1/pipelines/{pipeline}/metrics/funnel", {
    params: { path: { pipeline: pipeline.key }, query: { group_by: "owner" } },
  }),
  200,
);
equal([funnel.total.deals, funnel.total.stages[0]?.reached], [1, 1]);
equal(funnel.groups?.map((group) => group.value), ["tom"]);

// Two more deals, listed one a page; the last page has no cursor.
for (const name of ["second", "third"]) {
  must(
    await api.POST("/v1/opportunities", {
      params: { header: once(name) },
      body: { pipeline: pipeline.key, name, opened_at: "2026-01-05T09:00:00Z" },
    }),
    201,
  );
}
const seen = new Set<string>();
for (let cursor: string | null | undefined = undefined; cursor !== null; ) {
  const page: components["schemas"]["OpportunityPage"] = must(
    await api.GET("/v1/opportunities", {
      params: { query: { pipeline: pipeline.key, limit: 1, ...(cursor ? { cursor } : {}) } },
    }),
    200,
  );
  for (const item of page.items) seen.add(item.name);
  cursor = page.page.next_cursor;
}
equal(seen.size, 3);

// The two that are open still, and were opened long ago, have gone quiet.
must(await api.POST("/v1/idle-scans", { params: { header: once("scan") } }), 200);
const flags = must(
  await api.GET("/v1/idle-flags", { params: { query: { pipeline: pipeline.key, state: "open" } } }),
  200,
);
equal(flags.items.map((flag) => flag.opportunity.name).sort(), ["second", "third"]);

console.log("walked");
