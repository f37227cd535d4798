"use strict";
// A page that is served asks for its data again, and shows how far sweeps and running runs are.
const SECONDS_BETWEEN_QUESTIONS = 2;

async function askAgain() {
  const state = document.querySelector("#following > [role=status]");
  try {
    if (!document.hidden && !dragging) {
      const answer = await fetch(`data.json?digest=${page.data.digest}`);
      if (!answer.ok)
        throw new Error(`the server answered ${answer.status}: ${(await answer.text()).trim()}`);
      const data = await answer.json();
      if (data.runs) takeData(data);
      state.textContent = `Asked at ${new Date().toLocaleTimeString()}.`;
    }
  } catch (error) {
    state.textContent = `Not following: ${error.message}`;
  }
  setTimeout(askAgain, 1000 * SECONDS_BETWEEN_QUESTIONS);
}

function progressBar(share) {
  return share === null ? null : element("progress", { value: share, max: 1 });
}

function sweepItem(sweep) {
  const running = sweep.running ? `, ${sweep.running} running` : "";
  return element(
    "li",
    {},
    progressBar(sweep.jobs ? sweep.finished / sweep.jobs : null),
    element("a", { href: sweep.link, textContent: sweep.name }),
    element("span", {
      class: "note",
      textContent: ` ${sweep.finished} of ${sweep.jobs} jobs finished${running} `,
    }),
    pushButton("only this one", () => page.setFilter(`sweep == ${JSON.stringify(sweep.name)}`)),
  );
}

function runningItem(run) {
  const share = run.progress === null ? "" : `${Math.floor(100 * run.progress)} %, `;
  return element(
    "li",
    {},
    progressBar(run.progress),
    element("a", { href: run.link, textContent: `${page.data.settings[run.setting]}, seed ${run.seed}` }),
    element("span", { class: "note", textContent: ` ${share}step ${run.steps}` }),
  );
}

function startFollowing(box) {
  const sweeps = element("ul", { class: "progress", id: "sweeps" });
  const running = element("ul", { class: "progress", id: "running" });
  const unreadable = element("ul", { class: "progress" });
  box.append(sweeps, running, unreadable, element("p", { class: "note", role: "status" }));
  page.views.push(() => {
    const { data } = page;
    sweeps.replaceChildren(...data.sweeps.map(sweepItem));
    running.replaceChildren(...data.runs.filter((run) => run.status === "running").map(runningItem));
    unreadable.replaceChildren(
      ...data.unreadable.map((text) => element("li", { class: "error", textContent: text })),
    );
    if (data.runs.length === 0) running.append(element("li", { textContent: "No run yet." }));
  });
}
