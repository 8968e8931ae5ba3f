// What the bindings export is all that there is to the program.
package main

import _ "{{name}}/bindings/wit_exports"

func main() {}
