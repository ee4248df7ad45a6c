const at = id => document.getElementById(id), cards = [...document.querySelectorAll('.card')];
function show() {
  let shown = 0;
  for (const card of cards) {
    const keep = (!at('class').value || card.dataset.classes.split(' ').includes(at('class').value))
      && (!at('split').value || card.dataset.split === at('split').value)
      && (!at('with').checked || card.dataset.by === '1');
    card.hidden = !keep;
    shown += keep;
  }
  at('count').textContent = shown;
}
for (const id of ['class', 'split', 'with']) at(id).addEventListener('change', show);
for (const card of cards) card.querySelector('svg').addEventListener('click', () => card.classList.toggle('large'));
show();
