"""The page's script: sort by a click on a column, filter by text, verdict, paper and record, copy a command."""

JS = """
(function () {
  "use strict";
  var search = document.getElementById("search"), verdict = document.getElementById("verdict");
  var paper = document.getElementById("paper"), recorded = document.getElementById("recorded");
  var shown = document.getElementById("shown");

  function filter() {
    var words = search.value.toLowerCase().split(/\\s+/).filter(Boolean), count = 0;
    document.querySelectorAll("table.rows tbody tr").forEach(function (row) {
      var text = row.getAttribute("data-text");
      var fits = words.every(function (word) { return text.indexOf(word) >= 0; }) &&
        (!verdict.value || row.getAttribute("data-verdict") === verdict.value) &&
        (!paper.value || row.getAttribute("data-paper") === paper.value) &&
        (!recorded.checked || row.getAttribute("data-recorded") === "1");
      row.hidden = !fits;
      count += fits ? 1 : 0;
    });
    document.querySelectorAll("section.suite-rows").forEach(function (section) {
      section.hidden = !section.querySelector("table.rows tbody tr:not([hidden])") &&
        section.querySelector("table.rows tbody tr") !== null;
    });
    document.querySelectorAll("section.paper-rows").forEach(function (section) {
      section.hidden = !section.querySelector("section.suite-rows:not([hidden])");
    });
    shown.textContent = count + (count === 1 ? " row" : " rows");
  }

  function key(row, column) {
    var value = row.cells[column].getAttribute("data-sort");
    if (value === null) { value = row.cells[column].textContent.trim().toLowerCase(); }
    if (value === "") { return null; }
    return isNaN(value) ? value : Number(value);
  }

  function sort(header) {
    var table = header.closest("table"), body = table.tBodies[0];
    var column = Array.prototype.indexOf.call(header.parentNode.cells, header);
    var falling = header.getAttribute("aria-sort") === "ascending";
    header.parentNode.querySelectorAll("th").forEach(function (other) { other.removeAttribute("aria-sort"); });
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
    Array.from(body.rows).map(function (row, index) { return [key(row, column), index, row]; }).sort(function (a, b) {
      if (a[0] === null || b[0] === null) { return a[0] === b[0] ? a[1] - b[1] : a[0] === null ? 1 : -1; }
      if (typeof a[0] !== typeof b[0]) { a = [String(a[0]), a[1]]; b = [String(b[0]), b[1]]; }
      var order = a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0;
      return (falling ? -order : order) || a[1] - b[1];
    }).forEach(function (item) { body.appendChild(item[2]); });
  }

  document.querySelectorAll("th button").forEach(function (button) {
    button.addEventListener("click", function () { sort(button.closest("th")); });
  });
  document.querySelectorAll("button.copy").forEach(function (button) {
    button.addEventListener("click", function () {
      var text = button.parentNode.querySelector("code").textContent;
      function done() { button.textContent = "copied"; setTimeout(function () { button.textContent = "copy"; }, 1500); }
      if (navigator.clipboard && window.isSecureContext) { navigator.clipboard.writeText(text).then(done); return; }
      var area = document.createElement("textarea");
      area.value = text;
      document.body.appendChild(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      done();
    });
  });
  [search, verdict, paper, recorded].forEach(function (control) {
    control.addEventListener("input", filter);
    control.addEventListener("change", filter);
  });
  document.querySelectorAll("a.suite").forEach(function (link) {
    link.addEventListener("click", function () {  // a hidden section cannot be jumped to
      search.value = ""; verdict.value = ""; paper.value = "";
      if (link.getAttribute("data-recorded") === "0") { recorded.checked = false; }
      filter();
    });
  });
  filter();
})();
"""
