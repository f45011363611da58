"use strict";
document.documentElement.classList.add("js");
const all = (query, root = document) => [...root.querySelectorAll(query)];

// Tabs: arrow keys, Home and End move, the address keeps the open tab.
const tabs = all("[role=tab]");
function open(tab, focus) {
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", chosen);
    other.tabIndex = chosen ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).classList.toggle("open", chosen);
  }
  if (focus) { tab.focus(); history.replaceState(null, "", "#" + tab.getAttribute("aria-controls")); }
}
tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => open(tab, true));
  tab.addEventListener("keydown", (event) => {
    const goal = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: -1 }[event.key];
    if (goal !== undefined) { open(tabs.at(goal % tabs.length), true); event.preventDefault(); }
  });
});
open(tabs.find((tab) => "#" + tab.getAttribute("aria-controls") === location.hash) || tabs[0], false);

// Drawers: a row's name opens the row below it.
for (const button of all("button.name")) {
  button.addEventListener("click", () => {
    const drawer = button.closest("tr").nextElementSibling;
    drawer.hidden = !drawer.hidden;
    button.setAttribute("aria-expanded", !drawer.hidden);
  });
}

// Sorting: rows move together with their drawers; rows without a value stay last.
for (const table of all("table.sortable")) {
  const body = table.tBodies[0];
  all("th button", table).forEach((button) => {
    const head = button.closest("th");
    button.addEventListener("click", () => {
      const order = head.getAttribute("aria-sort") === (head.dataset.first || "descending") ? -1 : 1;
      const sign = order * ((head.dataset.first || "descending") === "descending" ? -1 : 1);
      all("th", table).forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
      table.classList.add("sorted");
      const value = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent.trim();
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        return sign * (isNaN(x) || isNaN(y) ? (x > y) - (x < y) : x - y);
      };
      for (const row of all("tr.row", body).sort(compare)) {
        const drawer = row.nextElementSibling?.classList.contains("drawer") ? row.nextElementSibling : null;
        row.classList.remove("edge");
        body.append(row);
        if (drawer) body.append(drawer);
      }
    });
  });
}

// Filters: a text and two lists, per board.
for (const tools of all(".tools")) {
  const table = document.getElementById(tools.dataset.table);
  const fields = all("input, select", tools);
  const count = tools.querySelector("output");
  const apply = () => {
    const wanted = Object.fromEntries(fields.map((field) => [field.name, field.value.trim().toLowerCase()]));
    let shown = 0;
    for (const row of all("tr.row", table)) {
      const fits = row.dataset.name.toLowerCase().includes(wanted.text)
        && (!wanted.finetuning || row.dataset.finetuning === wanted.finetuning)
        && (!wanted.operator || row.dataset.operator === wanted.operator);
      row.hidden = !fits;
      shown += fits;
      if (!fits) {
        row.nextElementSibling.hidden = true;
        row.querySelector("button.name").setAttribute("aria-expanded", false);
      }
    }
    count.value = shown + " of " + all("tr.row", table).length + " rows";
  };
  fields.forEach((field) => field.addEventListener("input", apply));
  apply();
}
