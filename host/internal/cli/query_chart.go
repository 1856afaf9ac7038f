package cli

import (
	"bufio"
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxChartRows is how many rows are kept to be drawn; of more a table is made.
	maxChartRows = 5000
	maxBars      = 60
	maxSeries    = 20
	plainWidth   = 100 // where there is no terminal
)

// chart is what a query's render operator asked for, as text can draw it.
type chart struct {
	title  string
	width  int
	bars   []bar
	series []series
	at     []time.Time // of a time chart: the times that there are, in order
}

type bar struct {
	name  string
	value float64
	text  string
}

// series has a value for each time, or NaN.
type series struct {
	name   string
	values []float64
}

// newChart makes a chart of rows, or nil if there is nothing to draw.
func newChart(sum *querySummary, rows [][]jsontext.Value, width int) *chart {
	kind, _ := sum.Render["visualization"].(string)
	if len(rows) == 0 || len(sum.Columns) == 0 || len(rows[0]) != len(sum.Columns) {
		return nil
	}
	c := &chart{width: width}
	if c.width == 0 {
		c.width = plainWidth
	}
	c.title, _ = sum.Render["title"].(string)
	x, split := -1, -1
	var numbers []int
	for i, col := range sum.Columns {
		switch col.Type {
		case "datetime":
			if x < 0 {
				x = i
			}
		case "int", "long", "real", "decimal":
			numbers = append(numbers, i)
		default:
			if split < 0 {
				split = i
			}
		}
	}
	if len(numbers) == 0 {
		return nil
	}
	switch kind {
	case "timechart", "linechart", "areachart", "stackedareachart", "scatterchart", "anomalychart":
		if x >= 0 {
			return c.lines(sum, rows, x, split, numbers)
		}
	case "barchart", "columnchart", "piechart":
		label := split
		if label < 0 {
			label = x
		}
		if label < 0 && len(numbers) > 1 {
			label, numbers = numbers[0], numbers[1:]
		}
		if label >= 0 && len(rows) <= maxBars {
			for _, row := range rows {
				c.bars = append(c.bars, bar{cellText(row[label]), number(row[numbers[0]]), cellText(row[numbers[0]])})
			}
			return c
		}
	}
	return nil
}

// number reads a cell; NaN when it holds none.
func number(v jsontext.Value) float64 {
	f, err := strconv.ParseFloat(cellText(v), 64)
	if err != nil || math.IsInf(f, 0) {
		return math.NaN()
	}
	return f
}

func (c *chart) lines(sum *querySummary, rows [][]jsontext.Value, x, split int, numbers []int) *chart {
	type point struct {
		at    time.Time
		value float64
	}
	by := map[string][]point{}
	var order []string
	seen := map[time.Time]bool{}
	for _, row := range rows {
		at, err := time.Parse(time.RFC3339Nano, cellText(row[x]))
		if err != nil {
			continue
		}
		seen[at] = true
		for _, n := range numbers {
			name := sum.Columns[n].Name
			if split >= 0 {
				name = cellText(row[split])
				if len(numbers) > 1 {
					name += " " + sum.Columns[n].Name
				}
			}
			if by[name] == nil {
				order = append(order, name)
			}
			by[name] = append(by[name], point{at, number(row[n])})
		}
	}
	if len(seen) < 2 || len(order) > maxSeries {
		return nil
	}
	c.at = slices.SortedFunc(maps.Keys(seen), time.Time.Compare)
	for _, name := range order {
		s := series{name, make([]float64, len(c.at))}
		for i := range s.values {
			s.values[i] = math.NaN()
		}
		for _, p := range by[name] {
			i, _ := slices.BinarySearchFunc(c.at, p.at, time.Time.Compare)
			s.values[i] = p.value
		}
		c.series = append(c.series, s)
	}
	return c
}

var sparks = []rune("▁▂▃▄▅▆▇█")

func (c *chart) draw(w *bufio.Writer) error {
	if c.title != "" {
		fmt.Fprintln(w, printable(c.title))
	}
	if c.bars != nil {
		c.drawBars(w)
		return nil
	}
	wide := 0
	for _, s := range c.series {
		wide = max(wide, displayWidth(printable(s.name)))
	}
	wide = min(wide, c.width/3)
	room := max(10, c.width-wide-36)
	for _, s := range c.series {
		cells := shrink(s.values, room)
		low, high := bounds(s.values)
		name := fitCell(printable(s.name), wide)
		fmt.Fprintf(w, "%s%s  %s  min %s max %s last %s\n", name, strings.Repeat(" ", wide-displayWidth(name)), spark(cells, low, high),
			short(low), short(high), short(last(s.values)))
	}
	fmt.Fprintf(w, "%s  %s … %s\n", strings.Repeat(" ", wide), c.at[0].Format(time.RFC3339), c.at[len(c.at)-1].Format(time.RFC3339))
	return nil
}

// shrink brings values into n cells: the mean of those that fall together.
func shrink(values []float64, n int) []float64 {
	if len(values) <= n {
		return values
	}
	out := make([]float64, n)
	for i := range out {
		sum, many := 0.0, 0
		for _, v := range values[i*len(values)/n : (i+1)*len(values)/n] {
			if !math.IsNaN(v) {
				sum, many = sum+v, many+1
			}
		}
		out[i] = sum / float64(many) // NaN for none
	}
	return out
}

func spark(values []float64, low, high float64) string {
	var b strings.Builder
	for _, v := range values {
		switch {
		case math.IsNaN(v):
			b.WriteByte(' ')
		case high == low:
			b.WriteRune(sparks[0])
		default:
			b.WriteRune(sparks[min(len(sparks)-1, int((v-low)/(high-low)*float64(len(sparks))))])
		}
	}
	return b.String()
}

func bounds(values []float64) (low, high float64) {
	low, high = math.NaN(), math.NaN()
	for _, v := range values {
		if math.IsNaN(v) {
			continue
		}
		if math.IsNaN(low) || v < low {
			low = v
		}
		if math.IsNaN(high) || v > high {
			high = v
		}
	}
	return low, high
}

func last(values []float64) float64 {
	for _, v := range slices.Backward(values) {
		if !math.IsNaN(v) {
			return v
		}
	}
	return math.NaN()
}

// short writes a number in few characters.
func short(f float64) string {
	if math.IsNaN(f) {
		return "-"
	}
	for _, u := range []struct {
		from, unit float64
		sign       string
	}{{1e9, 1e9, "G"}, {1e6, 1e6, "M"}, {1e4, 1e3, "k"}} {
		if math.Abs(f) >= u.from {
			return strconv.FormatFloat(f/u.unit, 'f', 1, 64) + u.sign
		}
	}
	return strconv.FormatFloat(math.Round(f*100)/100, 'f', -1, 64)
}

// eighths of a cell, for the ends of bars.
var eighths = []rune(" ▏▎▍▌▋▊▉")

func (c *chart) drawBars(w *bufio.Writer) {
	names, texts, most := 0, 0, 0.0
	for _, b := range c.bars {
		names = max(names, displayWidth(printable(b.name)))
		texts = max(texts, len(b.text))
		if !math.IsNaN(b.value) {
			most = max(most, b.value)
		}
	}
	names = min(names, c.width/3)
	room := max(10, c.width-names-texts-4)
	for _, b := range c.bars {
		name := fitCell(printable(b.name), names)
		eights := 0
		if most > 0 && b.value > 0 {
			eights = int(math.Round(b.value / most * float64(room) * 8))
		}
		line := strings.Repeat("█", eights/8)
		if rest := eights % 8; rest > 0 {
			line += string(eighths[rest])
		}
		fmt.Fprintf(w, "%s%s  %*s  %s\n", name, strings.Repeat(" ", names-displayWidth(name)), texts, cmp.Or(b.text, "-"), line)
	}
}
