// Judges a history that `cargo sim --history FILE` has written, with Porcupine: a linearizability checker that shares
// nothing with the simulator's own. The format is described in ../README.md.
//
// Prints "linearizable" (exit code 0) or "not linearizable" (1); anything else that goes wrong ends with 2.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

// How long keys that share transactions are searched together before each is searched by itself.
const togetherMax = 20 * time.Second

type line struct {
	Process   int    `json:"process"`
	Call      string `json:"call"`
	Arguments struct {
		Key          string             `json:"key"`
		Value        string             `json:"value"`
		Serializable bool               `json:"serializable"`
		Expected     map[string]*string `json:"expected"`
	} `json:"arguments"`
	Result string `json:"result"`
	Answer struct {
		Value   *string            `json:"value"`
		Deleted bool               `json:"deleted"`
		Swapped bool               `json:"swapped"`
		Found   map[string]*string `json:"found"`
	} `json:"answer"`
	Called   int64  `json:"called"`
	Returned *int64 `json:"returned"`
}

// What a key holds; the empty string where it does not exist.
type state map[string]string

func held(value *string) string {
	if value == nil {
		return ""
	}
	return *value
}

func (l line) keys() []string {
	if l.Call != "swap" {
		return []string{l.Arguments.Key}
	}
	keys := []string{}
	for key := range l.Arguments.Expected {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// Whether the operation says anything about the present.
func (l line) counts() bool {
	switch l.Call {
	case "get":
		return l.Result == "answered" && !l.Arguments.Serializable
	case "put", "delete", "swap":
		return l.Result != "refused"
	}
	return false
}

func (l line) with(before state, value string) state {
	after := state{}
	for key, old := range before {
		after[key] = old
	}
	for _, key := range l.keys() {
		after[key] = value
	}
	return after
}

func (l line) holds(before state, expected map[string]*string) bool {
	for key, value := range expected {
		if before[key] != held(value) {
			return false
		}
	}
	return true
}

func (l line) step(before state) (bool, state) {
	known := l.Result == "answered"
	switch l.Call {
	case "get":
		return before[l.Arguments.Key] == held(l.Answer.Value), before
	case "put":
		return true, l.with(before, l.Arguments.Value)
	case "delete":
		existed := before[l.Arguments.Key] != ""
		return !known || l.Answer.Deleted == existed, l.with(before, "")
	}
	swaps := l.holds(before, l.Arguments.Expected)
	if known && (l.Answer.Swapped != swaps || !swaps && !l.holds(before, l.Answer.Found)) {
		return false, before
	}
	if swaps {
		return true, l.with(before, l.Arguments.Value)
	}
	return true, before
}

var model = porcupine.Model{
	Init: func() interface{} { return state{} },
	Step: func(before, input, output interface{}) (bool, interface{}) {
		return input.(line).step(before.(state))
	},
	Equal: func(one, other interface{}) bool {
		first, second := one.(state), other.(state)
		for key, value := range first {
			if second[key] != value {
				return false
			}
		}
		for key, value := range second {
			if first[key] != value {
				return false
			}
		}
		return true
	},
}

// What an operation does to one key, as an operation on that key alone.
func (l line) onKey(key string) line {
	if l.Call != "swap" {
		return l
	}
	if l.Result == "answered" && !l.Answer.Swapped {
		l.Call, l.Arguments.Key, l.Answer.Value = "get", key, l.Answer.Found[key]
		return l
	}
	l.Arguments.Expected = map[string]*string{key: l.Arguments.Expected[key]}
	return l
}

func operations(lines []line) []porcupine.Operation {
	var all []porcupine.Operation
	for place, l := range lines {
		returned := int64(math.MaxInt64)
		if l.Returned != nil && l.Result == "answered" {
			returned = *l.Returned
		}
		all = append(all, porcupine.Operation{
			ClientId: place, Input: l, Call: l.Called, Output: nil, Return: returned,
		})
	}
	return all
}

// Parts the lines by keys that never meet in one operation.
func groups(lines []line) map[string][]line {
	parent := map[string]string{}
	var root func(key string) string
	root = func(key string) string {
		if up, known := parent[key]; known && up != key {
			return root(up)
		}
		return key
	}
	for _, l := range lines {
		for _, key := range l.keys() {
			parent[root(key)] = root(l.keys()[0])
		}
	}
	parts := map[string][]line{}
	for _, l := range lines {
		group := root(l.keys()[0])
		parts[group] = append(parts[group], l)
	}
	return parts
}

func linearizable(lines []line) bool {
	for _, part := range groups(lines) {
		result := porcupine.CheckOperationsTimeout(model, operations(part), togetherMax)
		if result == porcupine.Illegal {
			return false
		}
		if result == porcupine.Ok {
			continue
		}
		byKey := map[string][]line{}
		for _, l := range part {
			for _, key := range l.keys() {
				byKey[key] = append(byKey[key], l.onKey(key))
			}
		}
		for _, ofKey := range byKey {
			if !porcupine.CheckOperations(model, operations(ofKey)) {
				return false
			}
		}
	}
	return true
}

func read(path string) ([]line, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var lines []line
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<24)
	for scanner.Scan() {
		var l line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(lines)+1, err)
		}
		if l.counts() {
			lines = append(lines, l)
		}
	}
	return lines, scanner.Err()
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: porcupine FILE")
		os.Exit(2)
	}
	lines, err := read(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if !linearizable(lines) {
		fmt.Println("not linearizable")
		os.Exit(1)
	}
	fmt.Println("linearizable")
}
