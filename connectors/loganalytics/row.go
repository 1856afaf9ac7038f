package loganalytics

import "github.com/casewire/casewire/plugin/wirejson"

// plainRow reads a row that is wholly in the buffer and has nothing to mend, which is what nearly all rows are. If it is
// not such a row, or not one at all, nothing has been read: oneRow looks at it cell by cell.
func (d *decoder) plainRow() (row []byte, ok bool) {
	b := d.in.buf[d.in.pos:d.in.end]
	if len(b) == 0 || b[0] != '[' || len(d.cols.keys) == 0 {
		return nil, false
	}
	row = d.row[:0]
	i := 1
	for n, key := range d.cols.keys {
		if n > 0 {
			if i >= len(b) || b[i] != ',' {
				break // too short a row, or white space
			}
			i++
		}
		if i >= len(b) {
			break
		}
		var behind int
		switch b[i] {
		case '"':
			behind = wirejson.String(b, i)
		case 'n':
			behind = literal(b, i, "null")
		case 't':
			behind = literal(b, i, "true")
		case 'f':
			behind = literal(b, i, "false")
		default: // a list or an object is no number, either
			behind = wirejson.Number(b, i)
		}
		if behind < 0 {
			break
		}
		row = append(row, key...)
		if d.cols.dynamic[n] {
			row = d.appendDynamic(row, b[i:behind])
		} else {
			row = append(row, b[i:behind]...)
		}
		i = behind
		if n < len(d.cols.keys)-1 {
			continue
		}
		// A number at the end of the buffer may go on behind it, so that the bracket must be there.
		if i < len(b) && b[i] == ']' && len(row) < maxRow {
			d.in.pos += i + 1
			return append(row, '}'), true
		}
	}
	d.row = row // grown, perhaps
	return nil, false
}

// literal returns the index behind the word at i, or a negative one if it is another.
func literal(b []byte, i int, word string) int {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}
