"use strict";
// The confusion matrix of a run's test, and images that it got wrong.
const imageOptions = { run: null }; // folder of the run
const MOST_CLASSES_DRAWN = 60;
const MOST_CLASSES_WITH_NUMBERS = 20;
const MOST_PAIRS = 12;
const IMAGES_NOTE =
  "Wrong images, the most certain predictions first: the true class, the predicted one and its probability.";

// A page on the disk has the values inside; one that is served asks for those of a run.
async function testImagesOf(run) {
  if (run.test_images !== undefined) return run.test_images;
  const answer = await fetch(`test_images.json?run=${encodeURIComponent(run.folder)}`);
  return answer.ok ? answer.json() : { error: `the server answered ${answer.status}` };
}

function confusionChart({ classes, confusion }, width) {
  const totals = d3.rollup(
    confusion,
    (entries) => d3.sum(entries, (entry) => entry[2]),
    (entry) => entry[0],
  );
  const cells = confusion.map(([truth, predicted, count]) => ({
    truth,
    predicted,
    count,
    share: count / totals.get(truth),
  }));
  const all = d3.range(classes.length);
  const side = Math.min(width, 640, 130 + 34 * classes.length);
  const step = (side - 110) / classes.length;
  const label = (at) => shortText(classes[at], 12);
  const labels = {
    domain: all,
    tickFormat: label,
    ticks: all.filter((at) => at % Math.ceil(13 / step) === 0),
  };
  const blue = theme.dark ? d3.interpolateRgb("#14171b", "#58a6ff") : d3.interpolateBlues;
  const svg = Plot.plot({
    width: side,
    height: side - 20,
    marginLeft: 86,
    marginBottom: 86,
    className: "chart",
    padding: 0.02,
    x: { type: "band", label: "predicted", tickRotate: -60, ...labels },
    y: { type: "band", label: "true", ...labels },
    color: { type: "identity" },
    marks: [
      Plot.cell(cells, { x: "predicted", y: "truth", fill: (cell) => blue(0.08 + 0.92 * cell.share) }),
      classes.length <= MOST_CLASSES_WITH_NUMBERS && step > 17
        ? Plot.text(cells, {
            x: "predicted",
            y: "truth",
            text: (cell) => String(cell.count),
            fontSize: 10,
            fill: (cell) => (d3.lab(blue(0.08 + 0.92 * cell.share)).l < 60 ? "white" : "black"),
          })
        : null,
      Plot.tip(
        cells,
        Plot.pointer({
          x: "predicted",
          y: "truth",
          fontSize: 12,
          title: ({ truth, predicted, count, share }) =>
            `true ${classes[truth]}\npredicted ${classes[predicted]}\n` +
            `${count} images, ${(100 * share).toFixed(1)} % of the true class`,
        }),
      ),
    ],
  });
  svg.setAttribute("aria-label", "confusion matrix");
  return svg;
}

function confusedPairs({ classes, confusion }) {
  const wrong = confusion
    .filter(([truth, predicted]) => truth !== predicted)
    .sort((a, b) => b[2] - a[2])
    .slice(0, MOST_PAIRS);
  if (wrong.length === 0) return "No test image was classified wrongly.";
  const words = wrong.map(
    ([truth, predicted, count]) => `${classes[truth]} taken for ${classes[predicted]} (${count})`,
  );
  return `Most often: ${words.join(", ")}.`;
}

function wrongImage(image, classes) {
  const [truth, predicted] = [classes[image.true], classes[image.predicted]];
  return element(
    "figure",
    {},
    element("img", {
      src: `data:image/png;base64,${image.png}`,
      alt: `true ${truth}, predicted ${predicted}`,
    }),
    element("figcaption", {
      textContent: `${truth}, not ${predicted} (${(100 * image.probability).toFixed(1)} %)`,
    }),
  );
}

function imagesView(found, width) {
  if (found === null) return [element("p", { class: "note", textContent: "This run kept neither." })];
  if (found.error) return [element("p", { class: "note", textContent: found.error })];
  const drawn = found.classes.length <= MOST_CLASSES_DRAWN ? confusionChart(found, width) : null;
  const title = found.wrong.length ? IMAGES_NOTE : "";
  return [
    drawn,
    element("p", { class: "note", textContent: confusedPairs(found) }),
    element("p", { class: "note", textContent: title }),
    element("div", { class: "images" }, ...found.wrong.map((image) => wrongImage(image, found.classes))),
  ].filter(Boolean);
}

function startTestImages(box) {
  const select = element("select", {
    onchange: () => {
      imageOptions.run = select.value;
      changed();
    },
  });
  const view = element("div");
  let shown = ""; // run, look and width of what is drawn: the images of a run do not change
  box.append(
    element("div", { class: "controls" }, element("label", { class: "control" }, "run ", select)),
    view,
  );
  page.views.push(async () => {
    const runs = page.kept.filter((run) => run.test_images !== null);
    box.closest("section").hidden = page.data.runs.every((run) => run.test_images === null);
    const run = runs.find((one) => one.folder === imageOptions.run) ?? runs[0];
    select.replaceChildren(
      ...runs.map((one) =>
        element("option", {
          value: one.folder,
          textContent: `${page.data.settings[one.setting]}, seed ${one.seed}`,
        }),
      ),
    );
    if (!run) {
      shown = "";
      view.replaceChildren();
      return;
    }
    select.value = run.folder;
    const wanted = `${run.folder} ${theme.dark} ${box.clientWidth}`;
    if (wanted === shown) return;
    shown = wanted;
    const found = await testImagesOf(run);
    if (wanted === shown) view.replaceChildren(...imagesView(found, box.clientWidth));
  });
}
