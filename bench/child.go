package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// child is the back end or the generator: this same program in a process of
// its own, one JSON line in, one JSON line out.
type child struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

func spawn(ctx context.Context, role string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, role)
	cmd.Stderr = os.Stderr
	// A collection holds up every station for some milliseconds: none of the server's.
	cmd.Env = append(os.Environ(), "GOGC=1600")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	err = onOthers(cmd.Start)
	if err != nil {
		return nil, fmt.Errorf("couldn't start the %s: %w", role, err)
	}
	return &child{cmd: cmd, stdin: stdin, lines: bufio.NewScanner(stdout)}, nil
}

// read takes the next line of the child's output.
func (c *child) read(into any) error {
	if !c.lines.Scan() {
		return errors.Join(errors.New("a helper process ended"), c.lines.Err())
	}
	return json.Unmarshal(c.lines.Bytes(), into)
}

func (c *child) ask(question, into any) error {
	line, err := json.Marshal(question)
	if err != nil {
		return err
	}
	_, err = c.stdin.Write(append(line, '\n'))
	if err != nil {
		return fmt.Errorf("couldn't write to a helper process: %w", err)
	}
	return c.read(into)
}

// order lets the generator carry out one order; what goes wrong is an error.
func (c *child) order(o order) (outcome, error) {
	var res outcome
	err := c.ask(o, &res)
	if err != nil {
		return res, err
	}
	if res.Error != "" {
		return res, fmt.Errorf("%s: %s", o.Do, res.Error)
	}
	return res, nil
}

func (c *child) end() {
	_ = c.stdin.Close()
	_ = c.cmd.Wait()
}
