import org.apache.kafka.tools.DumpLogSegments;

/** DumpLogSegments several times in one process: each line of standard input is one set of arguments. */
public class Dump {
    public static void main(String[] args) throws Exception {
        // Some complaints are printed as errors, others not.
        System.setErr(System.out);
        try (var lines = new java.io.BufferedReader(new java.io.InputStreamReader(System.in))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                System.out.println("== " + line);
                try {
                    DumpLogSegments.main(line.split(" "));
                } catch (Throwable error) {
                    System.out.println("failed: " + error);
                }
                System.out.flush();
            }
        }
    }
}
