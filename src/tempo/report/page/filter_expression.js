"use strict";
// Filters such as `lr > 0.01 and (seed == 0 or status == diverged)`, read by a small parser: nothing is evaluated.
//
//   or         = and { "or" and }
//   and        = not { "and" not }
//   not        = "not" not | "(" or ")" | comparison
//   comparison = operand [ sign operand | "in" "[" operand { "," operand } "]" ]
//   sign       = "==" | "=" | "!=" | "<" | "<=" | ">" | ">=" | "~"
//   operand    = number ["%"] | "text" | name
//
// A name of a column is its value in the run, any other name is text. A single word or text finds the runs that
// contain it anywhere. `~` is "contains".
const FilterExpression = (() => {
  const TEXT = /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/.source;
  const NUMBER = /[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w./])/.source;
  const NAME = /[A-Za-z_\u00c0-\uffff][\w./:\u00c0-\uffff-]*/.source;
  const SIGN = /==|!=|<=|>=|&&|\|\||[<>=~!()[\],]/.source;
  const TOKEN = new RegExp(`\\s*(?:(${TEXT})|(${NUMBER})(\\s*%)?|(${NAME})|(${SIGN}))`, "uy");
  const COMPARISONS = new Set(["==", "=", "!=", "<", "<=", ">", ">=", "~"]);

  function tokens(text) {
    const found = [];
    TOKEN.lastIndex = 0;
    while (text.slice(TOKEN.lastIndex).trim() !== "") {
      const start = TOKEN.lastIndex;
      const match = TOKEN.exec(text);
      if (match === null) throw new Error(`cannot read "${text.slice(start).trim()}"`);
      const [, quoted, number, percent, name, sign] = match;
      if (quoted !== undefined)
        found.push({ kind: "text", value: quoted.slice(1, -1).replace(/\\(.)/g, "$1") });
      else if (number !== undefined)
        found.push({ kind: "number", value: Number(number) / (percent ? 100 : 1) });
      else if (name !== undefined) found.push({ kind: "name", value: name });
      else found.push({ kind: "sign", value: { "&&": "and", "||": "or", "!": "not" }[sign] ?? sign });
    }
    return found;
  }

  // `column(name)` returns a function from a run to its value, or undefined; `all(run)` the whole row as text.
  function parse(text, column, all) {
    const list = tokens(text);
    let at = 0;
    const is = (value) =>
      at < list.length && list[at].value === value && list[at].kind !== "text" && list[at].kind !== "number";
    const take = (value) => (is(value) ? ((at += 1), true) : false);
    const need = (value) => {
      if (!take(value))
        throw new Error(
          `"${value}" is missing ${at < list.length ? `before "${list[at].value}"` : "at the end"}`,
        );
    };

    function operand() {
      const token = list[at];
      if (token === undefined) throw new Error("a value is missing at the end");
      if (token.kind === "sign") throw new Error(`a value is missing before "${token.value}"`);
      at += 1;
      const constants = { true: true, false: false, null: null };
      if (token.kind === "name" && Object.hasOwn(constants, token.value))
        return { of: () => constants[token.value], column: true };
      const values = token.kind === "name" ? column(token.value) : undefined;
      return values
        ? { of: values, column: true }
        : { of: () => token.value, column: false, word: token.value };
    }

    function comparison() {
      const left = operand();
      if (at < list.length && list[at].kind === "sign" && COMPARISONS.has(list[at].value)) {
        if (!left.column && typeof left.word === "string") throw new Error(`there is no column ${left.word}`);
        const sign = list[at++].value;
        const right = operand();
        return (run) => compared(left.of(run), sign, right.of(run));
      }
      if (take("in")) {
        need("[");
        const options = [operand()];
        while (take(",")) options.push(operand());
        need("]");
        return (run) => options.some((option) => equal(left.of(run), option.of(run)));
      }
      if (left.column) return (run) => Boolean(left.of(run));
      const wanted = String(left.word).toLowerCase();
      return (run) => all(run).toLowerCase().includes(wanted);
    }

    function not() {
      if (take("not")) {
        const inner = not();
        return (run) => !inner(run);
      }
      if (take("(")) {
        const inner = or();
        need(")");
        return inner;
      }
      return comparison();
    }

    function and() {
      const parts = [not()];
      while (take("and")) parts.push(not());
      return (run) => parts.every((part) => part(run));
    }

    function or() {
      const parts = [and()];
      while (take("or")) parts.push(and());
      return (run) => parts.some((part) => part(run));
    }

    if (list.length === 0) return () => true;
    const result = or();
    if (at < list.length) throw new Error(`"and" or "or" is missing before "${list[at].value}"`);
    return result;
  }

  function equal(a, b) {
    if (typeof a === "number" && typeof b === "number")
      return Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b));
    if (a === null || a === undefined || b === null || b === undefined) return (a ?? null) === (b ?? null);
    return String(a) === String(b);
  }

  function compared(a, sign, b) {
    if (sign === "==" || sign === "=") return equal(a, b);
    if (sign === "!=") return !equal(a, b);
    if (sign === "~")
      return String(a ?? "")
        .toLowerCase()
        .includes(String(b ?? "").toLowerCase());
    if (typeof a !== typeof b || (typeof a !== "number" && typeof a !== "string")) return false;
    return { "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b }[sign];
  }

  return { parse };
})();
